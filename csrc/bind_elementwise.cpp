// Operations over elements from the Tensor to the kernel without Python in between: what `apply` would do with an Op whose `forward` is one
// row of kernels.def over Elements or Binary. For small arrays Python's part is most of the time.
#include <array>
#include <cstring>

#include "tape.h"

using namespace fastnn;

namespace {

enum class Kept { inputs, result, shapes };

struct Elementwise {
  Row row;
  int inputs;
  Kept kept;
  PyTypeObject* op;
  py::object otherwise;  // takes what is not Tensors alone or is refused, and all where somebody looks at Python's calls
  py::object number;     // (value, dtype, device, sign): the Tensor of rank 0 that stands for a number beside another Tensor; or None
  std::optional<tape::Slot> shapes;
};

// The last numbers that stood beside Tensors: most come again. Told apart by their bits, which 0.0 and -0.0 have of their own.
class Numbers {
 public:
  py::object beside(const py::object& number, double value, const Array& other) {
    for (const One& one : ones_)
      if (one.tensor && std::memcmp(&one.value, &value, sizeof value) == 0 && one.dtype == other.dtype && one.device == &other.device())
        return one.tensor;
    const Dtype dtype = other.dtype;  // Python may run meanwhile, and another thread give the Tensor another array
    const Device& device = other.device();
    const py::object tensor = number(value, name(dtype), device.name, std::copysign(1.0, value));
    ones_[next_++ % ones_.size()] = {value, dtype, &device, tensor};
    return tensor;
  }

 private:
  struct One {
    double value = 0;
    Dtype dtype = Dtype::float32;
    const Device* device = nullptr;
    py::object tensor;
  };
  std::array<One, 16> ones_;
  size_t next_ = 0;
};

// A number of Python's beside a Tensor of floats, as a Tensor; null where it is something else, or their dtype does not hold it.
py::object number_beside(const Elementwise& f, PyObject* value, PyObject* beside) {
  static auto* const numbers = new Numbers;  // as long as the process
  PyObject* const array = f.number.is_none() || !(PyFloat_CheckExact(value) || PyLong_CheckExact(value)) ? nullptr : tape::array_of(beside);
  const auto* const other = array ? static_cast<const Array*>(held(array_type(), array)) : nullptr;
  if (!other || other->dtype == Dtype::uint8 || other->dtype == Dtype::int64 || other->dtype == Dtype::boolean) return py::object();
  try {
    const double number = PyFloat_AsDouble(value);
    if (number == -1.0 && PyErr_Occurred()) throw py::error_already_set();
    return numbers->beside(f.number, number, *other);
  } catch (py::error_already_set& error) {
    if (!error.matches(PyExc_ValueError) && !error.matches(PyExc_OverflowError)) throw;
    return py::object();
  }
}

std::vector<Array> run(const Elementwise& f, const void* parameters, const std::vector<Argument>& arguments) {
  const Unlocked unlocked(Unlocked::worth(row_info(f.row), parameters, arguments));
  return call(f.row, parameters, arguments);
}

std::vector<Array> run(const Elementwise& f, const std::vector<Argument>& arguments) {
  const Shape& first = arguments[0].one->shape;
  if (f.inputs == 1) {
    const Elements elements(first);
    return run(f, &elements, arguments);
  }
  const Binary binary(first, arguments[1].one->shape);
  return run(f, &binary, arguments);
}

void keep(const Elementwise& f, PyObject* op, PyObject* const* arrays, PyObject* result) {
  if (f.kept == Kept::shapes) {
    py::tuple shapes(size_t(f.inputs));
    for (int i = 0; i < f.inputs; i++) shapes[size_t(i)] = tape::shape_of(arrays[i]);
    return f.shapes->set(op, std::move(shapes));
  }
  if (f.kept == Kept::result) return tape::save(op, &result, 1);
  tape::save(op, arrays, f.inputs);
}

PyObject* elementwise_from_python(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    const auto& f = *static_cast<Elementwise*>(PyCapsule_GetPointer(self, nullptr));
    PyObject* arrays[2] = {};
    py::object held_arrays[2];  // whoever gives a Tensor other values meanwhile does not free these
    std::vector<Argument> arguments(size_t(f.inputs));
    bool ours = count == f.inputs && !tape::watched();
    PyObject* tensors[2] = {};
    py::object number;
    for (int i = 0; ours && i < f.inputs; i++) {
      tensors[i] = args[i];
      if (f.inputs == 2 && !number && (number = number_beside(f, args[i], args[1 - i]))) tensors[i] = number.ptr();
      held_arrays[i] = tape::borrowed(arrays[i] = tape::array_of(tensors[i]));
      arguments[size_t(i)].one = arrays[i] ? static_cast<const Array*>(held(array_type(), arrays[i])) : nullptr;
      ours = arguments[size_t(i)].one != nullptr;
    }
    const auto other = [&] { return tape::checked(PyObject_Vectorcall(f.otherwise.ptr(), args, size_t(count), nullptr)); };
    if (!ours) return other();
    tape::Wanted wanted(tensors, size_t(count));
    py::object result;
    try {
      result = wrapped(std::move(run(f, arguments)[0]));
    } catch (const std::invalid_argument&) {
    } catch (const TypeMismatch&) {
    }
    if (!result) return other();
    if (!wanted.any) return tape::new_tensor(std::move(result), py::none());
    const py::object op = tape::checked(f.op->tp_alloc(f.op, 0));
    keep(f, op.ptr(), arrays, result.ptr());
    tape::record(op.ptr(), std::move(wanted.needs), std::move(wanted.edges));
    return tape::new_tensor(std::move(result), op);
  });
}

Kept kept_named(const std::string& name) {
  if (name == "inputs") return Kept::inputs;
  if (name == "result") return Kept::result;
  if (name == "shapes") return Kept::shapes;
  throw std::invalid_argument("elementwise: kept is '" + name + "'; expected inputs, result or shapes");
}

}  // namespace

void bind_elementwise(py::module_& m) {
  static PyMethodDef definition = c_function("elementwise", &elementwise_from_python, nullptr);
  m.def(
      "elementwise",
      [](const py::object& op, const std::string& row, const std::string& kept, const py::object& otherwise, const py::object& number) {
        auto* const f = new Elementwise{row_named(row),   row_info(row_named(row)).parameters == std::string("Binary") ? 2 : 1,
                                        kept_named(kept), reinterpret_cast<PyTypeObject*>(op.ptr()),
                                        otherwise,        number,
                                        std::nullopt};  // as long as the process
        op.inc_ref();
        if (f->kept == Kept::shapes) f->shapes.emplace(op, "shapes");
        const py::capsule self(f, [](void*) {});
        return py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definition, self.ptr(), nullptr));
      },
      py::arg("op"), py::arg("row"), py::arg("kept"), py::arg("otherwise"), py::arg("number") = py::none(),
      "apply(op(), *tensors) for an Op that is one row over elements and keeps its inputs, its result or the inputs' shapes for backward; "
      "`otherwise` takes what is not Tensors alone, or refused. number(value, dtype, device, sign): the Tensor that stands for a number "
      "beside another; numbers are `otherwise`'s without it.");
  m.def(
      "method", [](const py::object& function) { return py::reinterpret_steal<py::object>(PyInstanceMethod_New(function.ptr())); },
      py::arg("function"), "A function written in C as a method.");
}
