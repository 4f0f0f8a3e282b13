// The tape's hand: `apply` runs an operation on Tensors and records it, reading and filling the slots of Python's classes Tensor and Op
// (fastnn/tensor.py, fastnn/tape.py) where they lie.
#include "tape.h"

using namespace fastnn;
using namespace tape;

namespace {

struct Classes {
  py::object tensor, op, serials;
  Slot array{tensor, "_array"}, wants{tensor, "requires_grad"}, grad{tensor, "_grad"}, maker{tensor, "_op"}, shape{tensor, "_shape"};
  Slot needs{op, "needs"}, edges{op, "edges"}, serial{op, "serial"}, saved{op, "_saved"}, versions{op, "_versions"};
  py::str forward{"forward"}, remakes_inputs{"remakes_inputs"}, forget_inputs{"forget_inputs"};
  bool tensors(PyObject* o) const { return PyObject_TypeCheck(o, reinterpret_cast<PyTypeObject*>(tensor.ptr())); }
};
const Classes* classes;

// With self as the first word.
py::object called(const py::str& method, const std::vector<PyObject*>& words) {
  return checked(or_wait_for_the_end([&] { return PyObject_VectorcallMethod(method.ptr(), words.data(), words.size(), nullptr); }));
}

}  // namespace

bool tape::watched() { return PyThreadState_Get()->c_profilefunc != nullptr; }

PyObject* tape::array_of(PyObject* object) { return classes->tensors(object) ? classes->array.get(object) : nullptr; }

PyObject* tape::wants_of(PyObject* tensor) { return classes->wants.get(tensor); }
PyObject* tape::gradient_of(PyObject* tensor) { return classes->grad.get(tensor); }

void tape::note_input(PyObject* tensor) {
  PyObject* const maker = classes->maker.get(tensor);
  const auto* const array = static_cast<const Array*>(held(array_type(), classes->array.get(tensor)));
  if ((maker && maker != Py_None) || !array || array->storage->imagined) return;
  const py::int_ address(reinterpret_cast<uintptr_t>(tensor));
  if (PyDict_SetItem(inputs_of_step, address.ptr(), tensor)) throw py::error_already_set();
}

py::object tape::edge_of(PyObject* tensor) {
  const py::object wants = borrowed(classes->wants.get(tensor));
  const int truth = grad_enabled && wants ? PyObject_IsTrue(wants.ptr()) : 0;
  if (truth < 0) throw py::error_already_set();
  if (!truth) return py::none();
  PyObject* const maker = classes->maker.get(tensor);
  return borrowed(maker && maker != Py_None ? maker : tensor);
}

py::object tape::new_tensor(py::object array, py::object op) {
  const Classes& c = *classes;
  if (!held(array_type(), array.ptr())) return c.tensor(array);  // raises
  auto* const type = reinterpret_cast<PyTypeObject*>(c.tensor.ptr());
  py::object t = checked(type->tp_alloc(type, 0));
  c.array.set(t.ptr(), std::move(array));
  c.wants.set(t.ptr(), py::bool_(!op.is_none()));
  c.grad.set(t.ptr(), py::none()), c.shape.set(t.ptr(), py::none());
  c.maker.set(t.ptr(), std::move(op));
  return t;
}

void tape::record(PyObject* op, py::object needs, py::object edges) {
  const Classes& c = *classes;
  c.needs.set(op, std::move(needs)), c.edges.set(op, std::move(edges)), c.serial.set(op, checked(PyIter_Next(c.serials.ptr())));
}

void tape::save(PyObject* op, PyObject* const* arrays, Py_ssize_t count) {
  py::tuple saved(count), versions(count);
  for (Py_ssize_t i = 0; i < count; i++) {
    const void* const array = arrays[i] == Py_None ? nullptr : held(array_type(), arrays[i]);
    if (!array && arrays[i] != Py_None)
      throw TypeMismatch(std::string("save: expected arrays or None, got ") + Py_TYPE(arrays[i])->tp_name);
    const int64_t version = array ? static_cast<const Array*>(array)->storage->version.load() : 0;
    PyTuple_SET_ITEM(saved.ptr(), i, borrowed(arrays[i]).release().ptr());
    PyTuple_SET_ITEM(versions.ptr(), i, py::int_(version).release().ptr());
  }
  classes->saved.set(op, std::move(saved)), classes->versions.set(op, std::move(versions));
}

namespace {

[[noreturn]] void refuse(PyObject* op, PyObject* input) {
  throw TypeMismatch(py::cast<std::string>(py::handle(op).attr("name")) + ": expected a Tensor, got " + Py_TYPE(input)->tp_name +
                     "; fastnn.tensor(array) makes one");
}

py::object apply(PyObject* op, PyObject* const* inputs, size_t count) {
  const Classes& c = *classes;
  std::vector<py::object> arrays(count);  // held: whoever gives a Tensor other values meanwhile does not free these
  std::vector<PyObject*> words(count + 1, op);
  for (size_t i = 0; i < count; i++) {
    PyObject* const array = inputs[i] == Py_None ? Py_None : array_of(inputs[i]);
    if (!array) refuse(op, inputs[i]);
    arrays[i] = borrowed(words[i + 1] = array);
  }
  Wanted wanted(inputs, count);
  c.needs.set(op, wanted.needs);
  py::object result = called(c.forward, words);
  if (!wanted.any) return new_tensor(std::move(result), py::none());
  record(op, std::move(wanted.needs), std::move(wanted.edges));
  if (py::cast<bool>(checked(PyObject_GetAttr(op, c.remakes_inputs.ptr())))) {
    std::copy(inputs, inputs + count, words.begin() + 1);
    called(c.forget_inputs, words);
  }
  return new_tensor(std::move(result), borrowed(op));
}

PyObject* apply_from_python(PyObject*, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    if (!count || !PyObject_TypeCheck(args[0], reinterpret_cast<PyTypeObject*>(classes->op.ptr())))
      throw TypeMismatch("apply: the first argument must be an Op");
    return apply(args[0], args + 1, size_t(count - 1));
  });
}

PyObject* save_from_python(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    save(self, args, count);
    return py::none();
  });
}

}  // namespace

void bind_tape(py::module_& m) {
  static PyMethodDef apply =
      c_function("apply", &apply_from_python,
                 "apply(op, *inputs): runs op.forward on the inputs' arrays and records it when one of them requires a gradient.");
  static PyMethodDef save = c_function("save", &save_from_python, "Keeps arrays for backward, together with their versions.");
  m.def(
      "tape",
      [](const py::object& tensor, const py::object& op, const py::object& serials) {
        classes = new Classes{tensor, op, serials};
        op.attr("save") = checked(PyDescr_NewMethod(reinterpret_cast<PyTypeObject*>(op.ptr()), &save));
        return checked(PyCFunction_NewEx(&apply, nullptr, nullptr));
      },
      py::arg("tensor"), py::arg("op"), py::arg("serials"),
      "`apply` for these classes, whose operations are numbered by `serials`; gives Op its `save`.");
  bind_no_grad(m);
}
