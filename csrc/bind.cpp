// The module: the structs of kernels.h and one function per row of kernels.def.
#include "bind.h"

using namespace fastnn;

namespace {

// --- the structs of kernels.h

void bind_parameters(py::module_& m) {
  using py::arg;
  const Pair one{1, 1}, none{0, 0};
  auto pair = [](Pair p) { return py::make_tuple(p.h, p.w); };
  py::class_<Conv2d>(m, "Conv2d")
      .def(py::init<Shape, Shape, Pair, Pair, Pair, Pair, int64_t>(), arg("x_shape"), arg("w_shape"), arg("stride") = pair(one),
           arg("pad_before") = pair(none), arg("pad_after") = pair(none), arg("dilation") = pair(one), arg("groups") = 1)
      .def_property_readonly("y_shape", &Conv2d::y_shape);
  py::class_<MatMul>(m, "MatMul")
      .def(py::init<Shape, Shape, bool, bool>(), arg("a_shape"), arg("b_shape"), arg("transpose_a") = false, arg("transpose_b") = false)
      .def_property_readonly("y_shape", &MatMul::y_shape);
  py::class_<Channels>(m, "Channels").def(py::init<Shape>(), arg("shape"));
  py::class_<Pool2d>(m, "Pool2d")
      .def(py::init<Shape, Pair, Pair, Pair, bool>(), arg("x_shape"), arg("kernel"), arg("stride"), arg("pad") = pair(none),
           arg("ceil_mode") = false)
      .def_property_readonly("y_shape", &Pool2d::y_shape);
  py::class_<GlobalPool>(m, "GlobalPool").def(py::init<Shape>(), arg("x_shape")).def_property_readonly("y_shape", &GlobalPool::y_shape);
  py::class_<BatchNorm>(m, "BatchNorm")
      .def(py::init<Shape, double, double, Activation, bool, bool>(), arg("x_shape"), arg("eps") = 1e-5, arg("momentum") = 0.1,
           arg("activation") = "none", arg("training") = true, arg("residual") = false);
  py::class_<Elements>(m, "Elements").def(py::init<Shape>(), arg("shape"));
  py::class_<Power>(m, "Power").def(py::init<Shape, double>(), arg("shape"), arg("exponent"));
  py::class_<Dropout>(m, "Dropout")
      .def(py::init<Shape, double, int64_t, int64_t>(), arg("shape"), arg("p"), arg("draw") = 0, arg("offset") = 0);
  py::class_<Binary>(m, "Binary")
      .def(py::init<Shape, Shape>(), arg("a_shape"), arg("b_shape"))
      .def_property_readonly("y_shape", &Binary::y_shape);
  py::class_<Reduce>(m, "Reduce")
      .def(py::init([](const Shape& x, const std::vector<int>& axes, bool keepdims) {
             uint32_t mask = 0;
             for (int axis : axes) {
               const int d = axis < 0 ? axis + x.rank : axis;
               if (d < 0 || d >= x.rank)
                 throw std::invalid_argument("axis " + std::to_string(axis) + " does not exist in shape " + text(x));
               if (mask >> d & 1) throw std::invalid_argument("axis " + std::to_string(axis) + " is named twice");
               mask |= 1u << d;
             }
             return Reduce(x, mask, keepdims);
           }),
           arg("x_shape"), arg("axes"), arg("keepdims") = false)
      .def_property_readonly("y_shape", &Reduce::y_shape)
      .def_readonly("reduced_count", &Reduce::reduced_count);
  py::class_<Strided>(m, "Strided")
      .def(py::init<Shape, Shape, Shape, Shape, int64_t>(), arg("x_shape"), arg("y_shape"), arg("dims"), arg("stride"), arg("offset") = 0);
  py::class_<CrossEntropy>(m, "CrossEntropy")
      .def(py::init([](const Shape& logits, double smoothing, int64_t ignore_index, const std::string& reduction) {
             const char* names[] = {"none", "mean", "sum"};
             for (int i = 0; i < 3; i++)
               if (reduction == names[i]) return CrossEntropy(logits, smoothing, ignore_index, i);
             throw std::invalid_argument("reduction '" + reduction + "' is not one of none, mean, sum");
           }),
           arg("logits_shape"), arg("smoothing") = 0.0, arg("ignore_index") = -100, arg("reduction") = "mean");
  py::class_<SGD>(m, "SGD").def(py::init<int64_t, int64_t>(), arg("count"), arg("groups") = 1);
  py::class_<Adam>(m, "Adam").def(py::init<int64_t, int64_t>(), arg("count"), arg("groups") = 1);
  py::class_<Gather>(m, "Gather").def(py::init<Shape, int64_t>(), arg("source_shape"), arg("batch"));
  py::class_<Random>(m, "Random").def(py::init<int64_t, int64_t, int64_t>(), arg("n"), arg("draw"), arg("purpose"));
}

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
  py::register_exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError);
  py::register_exception<DeviceError>(m, "DeviceError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
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
}
