// The module, and its one function per row of kernels.def.
#include <array>

#include "bind.h"

using namespace fastnn;

namespace {

// --- one function per row: plain functions of C, since looking for an overload takes longer than a small kernel

struct RowFunction {
  Row row;
  const RowInfo* info;
  py::detail::type_info* parameters;
  std::string doc;
  PyMethodDef definition;
};

const Array& array_of(const Operand& operand, const char* row, PyObject* value) {
  if (void* array = held(array_type(), value)) return *static_cast<const Array*>(array);
  throw TypeMismatch(std::string(row) + ": " + operand.name + " must be an Array, got " + Py_TYPE(value)->tp_name);
}

Argument argument_of(const Operand& operand, const char* row, PyObject* value) {
  Argument argument;
  if (value == Py_None) {
    argument.absent = true;
  } else if (operand.list) {
    for (py::handle item : py::reinterpret_borrow<py::object>(value)) argument.list.push_back(array_of(operand, row, item.ptr()));
  } else {
    argument.one = &array_of(operand, row, value);
  }
  return argument;
}

std::vector<Array> run(const RowFunction& f, PyObject* const* args, size_t count) {
  const void* parameters = count ? held(f.parameters, args[0]) : nullptr;
  if (!parameters)
    throw TypeMismatch(std::string(f.info->name) + ": parameters must be a " + f.info->parameters + ", got " +
                       (count ? Py_TYPE(args[0])->tp_name : "nothing"));
  std::vector<Argument> arguments;
  arguments.reserve(count);
  size_t next = 1;
  for (const Operand& operand : f.info->operands)
    if (operand.direction != Direction::out && next < count) arguments.push_back(argument_of(operand, f.info->name, args[next++]));
  if (next < count)
    throw TypeMismatch(std::string(f.info->name) + " got " + std::to_string(count - 1) + " arrays, " + std::to_string(next - 1) +
                       " expected");
  const Unlocked unlocked(Unlocked::worth(*f.info, parameters, arguments));
  return call(f.row, parameters, arguments);
}

PyObject* call_from_python(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  return guarded([&] {
    std::vector<Array> outputs = run(*static_cast<RowFunction*>(PyCapsule_GetPointer(self, nullptr)), args, size_t(count));
    if (outputs.size() == 1) return wrapped(std::move(outputs[0]));
    if (outputs.empty()) return py::object(py::none());
    py::tuple tuple(outputs.size());
    for (size_t i = 0; i < outputs.size(); i++) tuple[i] = wrapped(std::move(outputs[i]));
    return py::object(std::move(tuple));
  });
}

void bind_row(py::module_& m, Row row, const std::type_info& parameters) {
  static auto& functions = *new std::array<RowFunction, row_count>;  // Python refers to them as long as the process lives
  const RowInfo& info = row_info(row);
  RowFunction* const f = &functions[row];
  *f = {row, &info, py::detail::get_type_info(parameters, true), {}, {}};
  f->doc = std::string(info.name) + "(parameters: " + info.parameters + ", *arrays)";
  f->definition = c_function(info.name, &call_from_python, f->doc.c_str());
  const py::capsule self(f, [](void*) {});
  m.attr(info.name) = py::reinterpret_steal<py::object>(PyCFunction_NewEx(&f->definition, self.ptr(), m.attr("__name__").ptr()));
}

void bind_rows(py::module_& m) {
  static const std::type_info* const types[] = {
#define KERNEL(name, Struct, operands) &typeid(Struct),
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"
  };
  for (int row = 0; row < row_count; row++) bind_row(m, Row(row), *types[row]);
  m.def(
      "plan",
      [](const std::string& name, const py::object& parameters, const std::string& dtype, const std::string& device) {
        const Row row = row_named(name);
        const void* const given = held(py::detail::get_type_info(*types[row], true), parameters.ptr());
        if (!given) throw TypeMismatch("plan: parameters of " + name + " must be a " + row_info(row).parameters);
        const Plan p = plan(row, given, dtype_named(dtype), device_named(device));
        return py::make_tuple(p.algorithm, p.scratch_bytes);
      },
      py::arg("row"), py::arg("parameters"), py::arg("dtype") = "float32", py::arg("device") = "cpu",
      "(algorithm, scratch bytes) that a kernel would use.");
}

}  // namespace

PYBIND11_MODULE(_C_of_the_main_interpreter, m) {
  static const py::handle out_of_memory = py::exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError).release();
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) rethrow(p);
    } catch (const OutOfMemory& e) {
      const py::object error = out_of_memory(e.what());
      error.attr("requested") = e.requested, error.attr("free") = e.free, error.attr("held") = e.held;
      PyErr_SetObject(out_of_memory.ptr(), error.ptr());
    } catch (const TypeMismatch& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const NotFinite& e) {
      PyErr_SetString(PyExc_FloatingPointError, e.what());
    }
  });
  bind_array(m);
  bind_parameters(m);
  bind_rows(m);
  bind_tape(m), bind_elementwise(m), bind_explained(m);
  bind_device(m);
  bind_replay(m);
}

// In another interpreter pybind11 would wait for ever for the lock (before Python 3.12).
extern "C" PYBIND11_EXPORT PyObject* PyInit__C() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return PyInit__C_of_the_main_interpreter();
  return PyErr_Format(PyExc_ImportError, "fastnn works in the main interpreter alone (mod_wsgi: WSGIApplicationGroup %%{GLOBAL})");
}
