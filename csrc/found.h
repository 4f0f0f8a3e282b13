// What a step that is written down finds in Python's objects: attributes, entries of their dicts and lists, arrays of Tensors. Before each
// replay it is asked whether all of it is still there, by identity alone: nothing is hashed, called or counted. It holds nothing: whoever
// asks keeps what was found, and what holds it.
#pragma once
#include "tape.h"

class Found {
 public:
  // owners: objects, of which the attributes are looked at, and lists of dicts; leaves: Tensors of which it counts whether they have a
  // gradient
  Found(const py::list& owners, const py::list& tensors, const py::list& leaves)
      : owners_(pointers(owners)), tensors_(pointers(tensors)), leaves_(pointers(leaves)) {
    walk([this](const void* p) { return found_.push_back(p), true; });
  }
  bool still() const {
    const void* const* at = found_.data();
    const void* const* const end = at + found_.size();
    return walk([&](const void* p) { return at != end && *at++ == p; }) && at == end;
  }

 private:
  static std::vector<PyObject*> pointers(const py::list& list) {
    std::vector<PyObject*> all;
    for (const py::handle& object : list) all.push_back(object.ptr());
    return all;
  }

  // Shows it all to `look` in the same order each time, until that returns false.
  template <class Look>
  bool walk(const Look& look) const {
    for (PyObject* owner : owners_)
      if (!(PyList_CheckExact(owner) ? in_list(owner, look, true) : in_dict(tape::checked(PyObject_GenericGetDict(owner, nullptr)), look)))
        return false;
    for (PyObject* tensor : tensors_)
      if (!look(tape::array_of(tensor)) || !look(tape::wants_of(tensor))) return false;
    for (PyObject* leaf : leaves_)
      if (!look(tape::gradient_of(leaf) == Py_None ? Py_None : Py_True)) return false;
    return true;
  }
  template <class Look>
  static bool in_dict(const py::object& dict, const Look& look, bool inside = true) {
    PyObject *key, *value;
    Py_ssize_t at = 0;
    if (!look(size(PyDict_Size(dict.ptr())))) return false;
    while (PyDict_Next(dict.ptr(), &at, &key, &value)) {
      if (!look(key) || !look(value)) return false;
      if (inside && PyDict_CheckExact(value) && !in_dict(tape::borrowed(value), look, false)) return false;
      if (inside && PyList_CheckExact(value) && !in_list(value, look, false)) return false;
    }
    return true;
  }
  template <class Look>
  static bool in_list(PyObject* list, const Look& look, bool inside) {
    if (!look(size(PyList_GET_SIZE(list)))) return false;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(list); i++) {
      PyObject* const item = PyList_GET_ITEM(list, i);
      if (!look(item) || (inside && PyDict_CheckExact(item) && !in_dict(tape::borrowed(item), look))) return false;
    }
    return true;
  }
  static const void* size(Py_ssize_t n) { return reinterpret_cast<const void*>(n); }

  const std::vector<PyObject*> owners_, tensors_, leaves_;
  std::vector<const void*> found_;
};
