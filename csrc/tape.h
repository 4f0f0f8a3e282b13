// What of the tape (bind_tape.cpp) operations that are written in C++ use.
#pragma once
#include "no_grad.h"
#include <structmember.h>

namespace tape {

// An entry of a class's __slots__.
class Slot {
 public:
  Slot(const py::handle& type, const char* name)
      : offset_(reinterpret_cast<PyMemberDescrObject*>(py::object(type.attr(name)).ptr())->d_member->offset) {}
  PyObject* get(PyObject* object) const { return at(object); }  // borrowed, null where it was never set
  void set(PyObject* object, py::object value) const { Py_XSETREF(at(object), value.release().ptr()); }

 private:
  PyObject*& at(PyObject* object) const { return *reinterpret_cast<PyObject**>(reinterpret_cast<char*>(object) + offset_); }
  const Py_ssize_t offset_;
};

inline py::object borrowed(PyObject* object) { return py::reinterpret_borrow<py::object>(object); }

inline py::object checked(PyObject* result) {
  if (!result) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(result);
}

bool watched();                           // whether somebody looks at each call of Python in this thread (sys.setprofile)
PyObject* array_of(PyObject* object);     // of a Tensor, borrowed; null where it is none
PyObject* wants_of(PyObject* tensor);     // whether it requires a gradient, borrowed
PyObject* gradient_of(PyObject* tensor);  // or None, borrowed
void note_input(PyObject* tensor);        // of a step that is written down: unless the step made it
py::object edge_of(PyObject* tensor);     // where a gradient goes: to what made the Tensor, or to itself; None where none is wanted
// Which of an operation's inputs, Tensors or None, want a gradient, and where it goes
struct Wanted {
  py::tuple needs, edges;
  bool any = false;
  Wanted(PyObject* const* inputs, size_t count) : needs(count), edges(count) {
    for (size_t i = 0; i < count; i++) {
      if (inputs_of_step && inputs[i] != Py_None) note_input(inputs[i]);
      py::object edge = inputs[i] == Py_None ? py::none() : edge_of(inputs[i]);
      const bool need = !edge.is_none();
      any |= need;
      PyTuple_SET_ITEM(needs.ptr(), Py_ssize_t(i), py::bool_(need).release().ptr());
      PyTuple_SET_ITEM(edges.ptr(), Py_ssize_t(i), edge.release().ptr());
    }
  }
};
py::object new_tensor(py::object array, py::object op);  // op: what made it, or None
void record(PyObject* op, py::object needs, py::object edges);
py::object shape_of(PyObject* array);
void save(PyObject* op, PyObject* const* arrays, Py_ssize_t count);  // for backward, with their versions

}  // namespace tape
