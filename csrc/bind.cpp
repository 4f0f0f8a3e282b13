// The module, and its one function per row of kernels.def.
#include "bind.h"

using namespace fastnn;

namespace {

// --- one function per row

Argument argument_of(const Operand& operand, const char* row, py::handle value) {
  Argument argument;
  if (value.is_none()) {
    argument.absent = true;
    return argument;
  }
  auto add = [&](py::handle item) {
    if (!py::isinstance<Array>(item))
      throw TypeMismatch(std::string(row) + ": " + operand.name + " must be an Array, got " +
                         py::cast<std::string>(py::type::of(item).attr("__name__")));
    argument.arrays.push_back(item.cast<const Array&>());
  };
  if (operand.list) {
    for (py::handle item : value) add(item);
  } else {
    add(value);
  }
  return argument;
}

py::object call_from_python(Row row, const void* parameters, const py::args& args) {
  const RowInfo& info = row_info(row);
  std::vector<Argument> arguments;
  arguments.reserve(args.size());
  size_t next = 0;
  for (const Operand& operand : info.operands)
    if (operand.direction != Direction::out && next < args.size()) arguments.push_back(argument_of(operand, info.name, args[next++]));
  if (next < args.size())
    throw TypeMismatch(std::string(info.name) + " got " + std::to_string(args.size()) + " arrays, " + std::to_string(next) + " expected");
  std::vector<Array> outputs;
  {
    py::gil_scoped_release unlock;
    outputs = call(row, parameters, arguments);
  }
  if (outputs.empty()) return py::none();
  if (outputs.size() == 1) return py::cast(std::move(outputs[0]));
  py::tuple tuple(outputs.size());
  for (size_t i = 0; i < outputs.size(); i++) tuple[i] = py::cast(std::move(outputs[i]));
  return tuple;
}

template <class S>
const void* parameters_of(py::handle object) {
  return &object.cast<const S&>();
}

void bind_rows(py::module_& m) {
#define KERNEL(name, Struct, operands) \
  m.def(#name, [](const Struct& parameters, const py::args& args) { return call_from_python(row_##name, &parameters, args); });
#define PLANNED KERNEL
#include "kernels.def"
#undef KERNEL
#undef PLANNED
  using Unwrap = const void* (*)(py::handle);
  static const Unwrap unwrap[] = {
#define KERNEL(name, Struct, operands) &parameters_of<Struct>,
#define PLANNED KERNEL
#include "kernels.def"
#include "undef_kernels.h"
  };
  m.def(
      "plan",
      [](const std::string& name, const py::object& parameters, const std::string& dtype, const std::string& device) {
        const Row row = row_named(name);
        const Plan p = plan(row, unwrap[row](parameters), dtype_named(dtype), device_named(device));
        return py::make_tuple(p.algorithm, p.scratch_bytes);
      },
      py::arg("row"), py::arg("parameters"), py::arg("dtype") = "float32", py::arg("device") = "cpu",
      "(algorithm, scratch bytes) that a kernel would use.");
  m.def(
      "rows",
      [] {
        py::list all;
        for (int row = 0; row < row_count; row++) {
          const RowInfo& info = row_info(Row(row));
          py::list operands;
          for (const Operand& o : info.operands) {
            py::dict d;
            d["name"] = o.name, d["direction"] = name(o.direction), d["type"] = name(o.type), d["optional"] = o.optional,
            d["list"] = o.list;
            operands.append(d);
          }
          py::dict d;
          d["name"] = info.name, d["struct"] = info.parameters, d["operands"] = operands, d["planned"] = info.planned;
          all.append(d);
        }
        return all;
      },
      "Every kernel with its operands, as declared in kernels.def.");
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  static const py::handle out_of_memory = py::exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError).release();
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
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
  bind_device(m);
  bind_replay(m);
}
