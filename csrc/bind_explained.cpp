// An operation as it is called by users: before it a look at the types of numbers and switches, behind it what an error means. Where
// nothing is wrong, no function of Python stands between the caller and the operation, which for small arrays would be a fifth of the time.
#include "tape.h"

using namespace tape;

namespace {

struct Plain {  // an argument of these very types, or it is to be looked at
  Py_ssize_t place;
  py::object name, types;
};

struct Explained {
  PyObject_HEAD;
  vectorcallfunc call;
  PyObject *attributes, *weak_references;
  struct Parts {
    py::object operation, fitted, explain;
    std::vector<Plain> plain;
  }* parts;
};

Explained& of(PyObject* self) { return *reinterpret_cast<Explained*>(self); }

bool is(PyObject* a, PyObject* b) {
  const int same = a == b ? 1 : PyObject_RichCompareBool(a, b, Py_EQ);
  if (same < 0) throw py::error_already_set();
  return same;
}

// What is given for it; null where nothing is.
PyObject* given(const Plain& plain, PyObject* const* args, Py_ssize_t count, PyObject* words) {
  if (plain.place < count) return args[plain.place];
  const Py_ssize_t named = words ? PyTuple_GET_SIZE(words) : 0;
  for (Py_ssize_t i = 0; i < named; i++)
    if (is(PyTuple_GET_ITEM(words, i), plain.name.ptr())) return args[count + i];
  return nullptr;
}

bool fits(const Plain& plain, PyObject* value) {
  const int found = value ? PySequence_Contains(plain.types.ptr(), reinterpret_cast<PyObject*>(Py_TYPE(value))) : 1;
  if (found < 0) throw py::error_already_set();
  return found;
}

std::pair<py::tuple, py::dict> words_and_names(PyObject* const* args, Py_ssize_t count, PyObject* words) {
  py::tuple all(count);
  for (Py_ssize_t i = 0; i < count; i++) PyTuple_SET_ITEM(all.ptr(), i, borrowed(args[i]).release().ptr());
  py::dict named;
  for (Py_ssize_t i = 0; words && i < PyTuple_GET_SIZE(words); i++) named[PyTuple_GET_ITEM(words, i)] = borrowed(args[count + i]);
  return {std::move(all), std::move(named)};
}

PyObject* call_operation(PyObject* self, PyObject* const* args, size_t flags, PyObject* words) {
  return guarded([&] {
    const Explained::Parts& f = *of(self).parts;
    const Py_ssize_t count = PyVectorcall_NARGS(flags);
    for (const Plain& plain : f.plain)
      if (!fits(plain, given(plain, args, count, words))) {
        const auto [all, named] = words_and_names(args, count, words);
        return f.fitted(all, named);
      }
    PyObject* const result = PyObject_Vectorcall(f.operation.ptr(), args, flags, words);
    if (result) return py::reinterpret_steal<py::object>(result);
    py::error_already_set error;
    const auto [all, named] = words_and_names(args, count, words);
    f.explain(error.value(), all, named);  // raises what is better
    throw error;
  });
}

PyObject* new_explained(PyTypeObject* type, PyObject* args, PyObject*) {
  return guarded([&] {
    const auto [operation, plain, fitted, explain] = py::cast<std::tuple<py::object, py::list, py::object, py::object>>(py::handle(args));
    auto parts = std::make_unique<Explained::Parts>(Explained::Parts{operation, fitted, explain, {}});
    for (const py::handle& one : plain) {
      const auto [place, name, types] = py::cast<std::tuple<Py_ssize_t, py::object, py::object>>(one);
      parts->plain.push_back({place, name, types});
    }
    py::object made = checked(type->tp_alloc(type, 0));
    of(made.ptr()).call = &call_operation, of(made.ptr()).parts = parts.release();
    return made;
  });
}

void free_explained(PyObject* self) {
  PyTypeObject* const type = Py_TYPE(self);
  if (of(self).weak_references) PyObject_ClearWeakRefs(self);
  delete of(self).parts;
  Py_XDECREF(of(self).attributes);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* bound(PyObject* self, PyObject* object, PyObject*) {
  return object && object != Py_None ? PyMethod_New(self, object) : (Py_INCREF(self), self);
}

PyObject* shown(PyObject* self) { return PyObject_Repr(of(self).parts->operation.ptr()); }

PyObject* by_name(PyObject* self, PyObject*) { return PyObject_GetAttrString(self, "__qualname__"); }  // for pickles and copies

}  // namespace

void bind_explained(py::module_& m) {
  static PyMemberDef members[] = {{"__vectorcalloffset__", T_PYSSIZET, offsetof(Explained, call), READONLY, nullptr},
                                  {"__dictoffset__", T_PYSSIZET, offsetof(Explained, attributes), READONLY, nullptr},
                                  {"__weaklistoffset__", T_PYSSIZET, offsetof(Explained, weak_references), READONLY, nullptr},
                                  {nullptr, 0, 0, 0, nullptr}};
  static PyGetSetDef properties[] = {{"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
                                     {nullptr, nullptr, nullptr, nullptr, nullptr}};
  static PyMethodDef methods[] = {{"__reduce__", &by_name, METH_NOARGS, nullptr}, {nullptr, nullptr, 0, nullptr}};
  static PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(&new_explained)},
                                {Py_tp_dealloc, reinterpret_cast<void*>(&free_explained)},
                                {Py_tp_call, reinterpret_cast<void*>(&PyVectorcall_Call)},
                                {Py_tp_descr_get, reinterpret_cast<void*>(&bound)},
                                {Py_tp_repr, reinterpret_cast<void*>(&shown)},
                                {Py_tp_members, members},
                                {Py_tp_getset, properties},
                                {Py_tp_methods, methods},
                                {0, nullptr}};
  static PyType_Spec spec = {"fastnn._C.Explained", sizeof(Explained), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL, slots};
  m.attr("Explained") = checked(PyType_FromSpec(&spec));
}
