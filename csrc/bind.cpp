// The only pybind11 file: Array, the structs of kernels.h, one function per row of kernels.def, and the switches.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "arena.h"
#include "array.h"
#include "device.h"
#include "dlpack.h"
#include "threads.h"
#include "thunk.h"

namespace py = pybind11;
using namespace fastnn;

// --- how shapes and pairs cross

namespace pybind11::detail {

template <>
struct type_caster<Shape> {
  PYBIND11_TYPE_CASTER(Shape, const_name("tuple[int, ...]"));
  bool load(handle source, bool) {
    if (!PySequence_Check(source.ptr()) || PyUnicode_Check(source.ptr())) return false;
    const auto items = reinterpret_borrow<sequence>(source);
    if (items.size() > max_rank)
      throw std::invalid_argument("rank " + std::to_string(items.size()) + " exceeds " + std::to_string(max_rank));
    value.rank = int(items.size());
    for (int i = 0; i < value.rank; i++) {
      object item = items[size_t(i)];
      if (!PyIndex_Check(item.ptr())) return false;
      value.d[i] = PyNumber_AsSsize_t(item.ptr(), PyExc_OverflowError);
      if (value.d[i] == -1 && PyErr_Occurred()) throw error_already_set();
    }
    return true;
  }
  static handle cast(const Shape& shape, return_value_policy, handle) {
    tuple t(shape.rank);
    for (int i = 0; i < shape.rank; i++) t[size_t(i)] = int_(shape.d[i]);
    return t.release();
  }
};

template <>
struct type_caster<Pair> {
  PYBIND11_TYPE_CASTER(Pair, const_name("tuple[int, int]"));
  bool load(handle source, bool convert) {
    type_caster<Shape> two;
    if (!two.load(source, convert)) return false;
    const Shape s = static_cast<Shape&>(two);
    value = {s.d[0], s.d[1]};
    return s.rank == 2;
  }
};

template <>
struct type_caster<Activation> {
  PYBIND11_TYPE_CASTER(Activation, const_name("str"));
  bool load(handle source, bool) {
    const std::string name = py::cast<std::string>(source);
    const char* names[] = {"none", "relu", "silu"};
    for (int i = 0; i < 3; i++)
      if (name == names[i]) return value = Activation(i), true;
    throw std::invalid_argument("activation '" + name + "' is not one of none, relu, silu");
  }
};

}  // namespace pybind11::detail

namespace {

// --- Array and numpy

py::dtype numpy_dtype(Dtype dtype) { return py::dtype(std::string(name(dtype))); }

py::array strided_view(const Array& array, bool writable) {
  const Shape strides = strides_of(array.shape);
  const auto item = py::ssize_t(item_size(array.dtype));
  std::vector<py::ssize_t> shape(array.shape.d, array.shape.d + array.shape.rank), bytes;
  for (int i = 0; i < array.shape.rank; i++) bytes.push_back(strides.d[i] * item);
  py::capsule owner(new std::shared_ptr<Storage>(array.storage), [](void* p) { delete static_cast<std::shared_ptr<Storage>*>(p); });
  py::array view(numpy_dtype(array.dtype), shape, bytes, array.data(), owner);
  if (!writable) view.attr("setflags")(py::arg("write") = false);
  return view;
}

Array from_numpy(const py::array& a) {
  Shape shape;
  if (a.ndim() > max_rank) throw std::invalid_argument("rank " + std::to_string(a.ndim()) + " exceeds " + std::to_string(max_rank));
  shape.rank = int(a.ndim());
  for (int i = 0; i < shape.rank; i++) shape.d[i] = a.shape(i);
  Array array = Array::empty(shape, dtype_named(py::cast<std::string>(py::str(a.dtype()))));
  py::module_::import("numpy").attr("copyto")(strided_view(array, true), a);
  return array;
}

// In place: the same shape, cast by numpy's same-kind rule. Counts as a write.
void copy_from(Array& array, const py::array& source) {
  py::module_::import("numpy").attr("copyto")(strided_view(array, true), source);
  array.storage->version++;
}

// --- DLPack

DLDataType dlpack_type(Dtype dtype) {
  const uint8_t bits = uint8_t(8 * item_size(dtype));
  switch (dtype) {
    case Dtype::int64: return {0, bits, 1};
    case Dtype::uint8: return {1, bits, 1};
    case Dtype::boolean: return {6, bits, 1};
    default: return {2, bits, 1};
  }
}

struct Exported {
  std::shared_ptr<Storage> storage;
  Shape shape, strides;
  DLManagedTensor managed;
};

py::capsule to_dlpack(const Array& array) {
  auto* e = new Exported{array.storage, array.shape, strides_of(array.shape), {}};
  e->managed.dl_tensor = {array.data(), {1, 0}, array.shape.rank, dlpack_type(array.dtype), e->shape.d, e->strides.d, 0};
  e->managed.manager_ctx = e;
  e->managed.deleter = [](DLManagedTensor* m) { delete static_cast<Exported*>(m->manager_ctx); };
  return py::reinterpret_steal<py::capsule>(PyCapsule_New(&e->managed, "dltensor", [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, "dltensor")) return;  // consumed: the consumer calls the deleter
    auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule, "dltensor"));
    m->deleter(m);
  }));
}

Array from_dlpack(const py::capsule& capsule) {
  auto* m = static_cast<DLManagedTensor*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor"));
  if (!m) throw py::error_already_set();
  const DLTensor& t = m->dl_tensor;
  if (t.device.device_type != 1)
    throw std::invalid_argument("from_dlpack: the array lies on device type " + std::to_string(t.device.device_type) +
                                "; expected the CPU");
  Array array;
  bool known = false;
  for (Dtype dtype : {Dtype::float32, Dtype::float64, Dtype::uint8, Dtype::int64, Dtype::boolean}) {
    const DLDataType mine = dlpack_type(dtype);
    if (mine.code == t.dtype.code && mine.bits == t.dtype.bits && t.dtype.lanes == 1) array.dtype = dtype, known = true;
  }
  if (!known) throw TypeMismatch("from_dlpack: its dtype has no counterpart here; convert to float32, float64, uint8, int64 or bool");
  if (t.ndim > max_rank)
    throw std::invalid_argument("from_dlpack: rank " + std::to_string(t.ndim) + " exceeds " + std::to_string(max_rank));
  array.shape.rank = t.ndim;
  for (int i = 0; i < t.ndim; i++) array.shape.d[i] = t.shape[i];
  const Shape wanted = strides_of(array.shape);
  int64_t row_major = 1;
  for (int i = t.ndim; i-- > 0; row_major *= t.shape[i]) {
    const int64_t stride = t.strides ? t.strides[i] : row_major;
    if (t.shape[i] > 1 && count(array.shape) > 0 && stride != wanted.d[i])
      throw std::invalid_argument("from_dlpack: shape " + text(array.shape) + " has stride " + std::to_string(stride) + " in dimension " +
                                  std::to_string(i) + ", fastnn needs " + std::to_string(wanted.d[i]) +
                                  (t.ndim == 4 ? " (rank 4 lies N, H, W, C)" : " (row-major)") + "; fastnn.tensor(a) makes a copy");
  }
  PyCapsule_SetName(capsule.ptr(), "used_dltensor");
  array.storage = std::make_shared<Storage>(static_cast<char*>(t.data) + t.byte_offset, array.bytes(), [m] {
    if (m->deleter) {
      py::gil_scoped_acquire gil;
      m->deleter(m);
    }
  });
  return array;
}

void bind_array(py::module_& m) {
  py::class_<Array>(m, "Array", py::buffer_protocol(), "A dense array; rank 4 has shape (N, C, H, W) and lies N, H, W, C in memory.")
      .def_property_readonly("shape", [](const Array& a) { return a.shape; })
      .def_property_readonly("dtype", [](const Array& a) { return name(a.dtype); })
      .def_property_readonly("nbytes", &Array::bytes)
      .def_property_readonly("size", &Array::count)
      .def_property_readonly("version", [](const Array& a) { return a.storage->version.load(); })
      .def_property_readonly("data_ptr", [](const Array& a) { return reinterpret_cast<uintptr_t>(a.data()); })
      .def(
          "numpy", [](const Array& a) { return strided_view(a, false); }, "A read-only strided view, no copy.")
      .def("view", &Array::view, "The same bytes under another shape; ValueError where that would permute.")
      .def("copy_from", &copy_from, "Overwrites the values from a numpy array of the same shape.")
      .def("item",
           [](const Array& a) {
             if (a.count() != 1) throw std::invalid_argument("item() needs an array of one element, got shape " + text(a.shape));
             return strided_view(a, false).attr("item")();
           })
      .def("__dlpack__", [](const Array& a, const py::kwargs&) { return to_dlpack(a); })
      .def("__dlpack_device__", [](const Array&) { return py::make_tuple(1, 0); })
      .def_property_readonly("__array_interface__", [](const Array& a) { return strided_view(a, false).attr("__array_interface__"); })
      .def_buffer([](Array& a) { return strided_view(a, false).request(); });
  m.def(
      "empty", [](const Shape& shape, const std::string& dtype) { return Array::empty(shape, dtype_named(dtype)); }, py::arg("shape"),
      py::arg("dtype") = "float32");
  m.def("from_numpy", &from_numpy, "Copies a numpy array of any strides.");
  m.def("from_dlpack", &from_dlpack, "Shares the memory of a DLPack capsule; ValueError where its strides do not fit.");
  m.def("lies_row_major", &lies_row_major, "Whether row-major order and memory order agree for a shape.");
}

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
      [](const std::string& name, const py::object& parameters, const std::string& dtype) {
        const Row row = row_named(name);
        const Plan p = plan(row, unwrap[row](parameters), dtype_named(dtype));
        return py::make_tuple(p.algorithm, p.scratch_bytes);
      },
      py::arg("row"), py::arg("parameters"), py::arg("dtype") = "float32", "(algorithm, scratch bytes) that a kernel would use.");
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

// --- switches and statistics

void bind_switches(py::module_& m) {
  m.def("set_num_threads", &threads::set_count);
  m.def("get_num_threads", &threads::count);
  m.def("threads_reason", &threads::reason);
  m.def("isa", &device::isa);
  m.def("isa_reason", &device::isa_reason);
  m.def("isas", &device::isas);
  m.def("set_isa", &device::set_isa);
  m.def("set_memory_checks", &set_memory_checks);
  m.def("set_finite_checks", &set_finite_checks);
  m.def("set_profiling", &set_profiling);
  m.def("profile", [] {
    py::dict all;
    const std::vector<Profile> rows = profile();
    for (int row = 0; row < row_count; row++)
      if (rows[size_t(row)].calls) {
        py::dict d;
        d["calls"] = rows[size_t(row)].calls, d["seconds"] = 1e-9 * double(rows[size_t(row)].nanoseconds),
        d["bytes"] = rows[size_t(row)].bytes;
        all[row_info(Row(row)).name] = d;
      }
    return all;
  });
  m.def("last_call", [] {
    const LastCall last = last_call();
    py::dict d;
    d["row"] = last.row, d["table"] = last.table, d["algorithm"] = last.algorithm, d["workers"] = __builtin_popcountll(last.workers);
    return d;
  });
  m.def("memory_stats", [] {
    const MemoryStats s = arena::stats();
    py::dict d;
    d["allocated"] = s.allocated, d["peak"] = s.peak, d["reserved"] = s.reserved, d["allocations"] = s.allocations, d["reused"] = s.reused;
    return d;
  });
  m.def("reset_peak_memory", &arena::reset_peak);
  m.def("empty_cache", &arena::empty_cache);
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  py::register_exception<OutOfMemory>(m, "OutOfMemoryError", PyExc_MemoryError);
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
  bind_switches(m);
}
