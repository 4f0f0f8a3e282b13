// Array for Python: what it tells, numpy's views of it, and what is written into it.

#include "bfloat16.h"
#include "recording.h"
#include "tape.h"

using namespace fastnn;

namespace {

// --- numpy

// numpy has no bfloat16: such an array is shown as its float32 copy, and made from float32.
Array widened(const Array& narrow) {
  Array wide = Array::empty(narrow.shape, Dtype::float32);
  for (int64_t i = 0; i < narrow.count(); i++) static_cast<float*>(wide.data())[i] = float(static_cast<const bfloat16*>(narrow.data())[i]);
  return wide;
}

Array narrowed(const Array& wide) {
  Array narrow = Array::empty(wide.shape, Dtype::bfloat16);
  for (int64_t i = 0; i < wide.count(); i++) static_cast<bfloat16*>(narrow.data())[i] = bfloat16(static_cast<const float*>(wide.data())[i]);
  return narrow;
}

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

}  // namespace

Array on(const Array& array, Device& device) {
  refuse_imagined(array);
  if (!array.device().is_cpu() && device.is_cpu()) refuse_while_recording("values of a GPU go to the host");
  if (Recording* r = recording()) {
    Array copy = imagined(array.shape, array.dtype, device);
    r->copy(array, copy);
    return copy;
  }
  const Unlocked unlocked;
  return array.to(device);
}

namespace {

// Read-only: a view of what lies in the CPU's memory, else of a copy of it.
py::array to_numpy(const Array& array) {
  refuse_while_recording("the host looks at the values of an array (numpy(), item(), bool(), print)");
  refuse_imagined(array);
  const Array here = array.device().is_cpu() ? array : on(array, cpu());
  return strided_view(here.dtype == Dtype::bfloat16 ? widened(here) : here, false);
}

// The usual ones without numpy's name for them, which is a walk through Python.
Dtype dtype_of(const py::array& a) {
  const py::dtype type = a.dtype();
  if (type.byteorder() == '=' && type.kind() == 'f' && type.itemsize() == 4) return Dtype::float32;
  if (type.byteorder() == '=' && type.kind() == 'f' && type.itemsize() == 8) return Dtype::float64;
  if (type.byteorder() == '=' && type.kind() == 'i' && type.itemsize() == 8) return Dtype::int64;
  return dtype_named(py::cast<std::string>(py::str(type)));
}

Array from_host(const py::array& a, const std::string& device_name, const std::string& dtype) {
  Device& device = device_named(device_name);
  Shape shape;
  if (a.ndim() > max_rank) throw std::invalid_argument("rank " + std::to_string(a.ndim()) + " exceeds " + std::to_string(max_rank));
  shape.rank = int(a.ndim());
  for (int i = 0; i < shape.rank; i++) shape.d[i] = a.shape(i);
  const Dtype wanted = dtype.empty() ? dtype_of(a) : dtype_named(dtype);
  Array array = Array::lasting(shape, wanted == Dtype::bfloat16 ? Dtype::float32 : wanted);
  py::module_::import("numpy").attr("copyto")(strided_view(array, true), a);
  if (wanted == Dtype::bfloat16) array = narrowed(array);
  return device.is_cpu() ? array : array.to(device);
}

Array from_numpy(const py::array& a, const std::string& device, const std::string& dtype) {
  refuse_while_recording("an array is made from the host's values (fastnn.tensor, numpy)");
  return from_host(a, device, dtype);
}

// What the library itself makes of numbers, the same in every step: allowed while a step is recorded.
Array constant(const py::array& a, const std::string& device, const std::string& dtype) {
  const Array array = from_host(a, device, dtype);
  if (Recording* r = recording()) r->constant(array);
  return array;
}

Array constant_on(const Array& array, const std::string& device) {
  refuse_without_bytes(array);
  const Array copy = array.to(device_named(device));
  if (Recording* r = recording()) r->constant(copy);
  return copy;
}

// In place: the same shape, cast by numpy's same-kind rule. Counts as a write.
void copy_from(Array& array, const py::array& source) {
  refuse_while_recording("an array is overwritten with the host's values (copy_from, load_state_dict)");
  refuse_imagined(array);
  Device& device = array.device();
  const bool narrow = array.dtype == Dtype::bfloat16;
  Array here = device.is_cpu() && !narrow ? array : Array::empty(array.shape, narrow ? Dtype::float32 : array.dtype);
  py::module_::import("numpy").attr("copyto")(strided_view(here, true), source);
  if (narrow) here = narrowed(here);
  if (here.storage != array.storage) device.copy_in(array.data(), here.data(), here.bytes());
  array.storage->version++;
}

// The same in its cheapest form, for what steps are told anew: a row-major source of the same type.
void overwrite(Array& array, const py::array& source) {
  refuse_without_bytes(array);
  const bool plain = source.flags() & py::array::c_style && lies_row_major(array.shape);
  if (!plain || size_t(source.nbytes()) != array.bytes() || size_t(source.itemsize()) != item_size(array.dtype))
    throw std::invalid_argument("write: expected a row-major array of " + std::to_string(array.bytes()) + " bytes");
  array.device().copy_in(array.data(), source.data(), array.bytes());
  array.storage->version++;
}

void assign(Array& array, const Array& source) {
  refuse_without_bytes(array);
  refuse_without_bytes(source);
  if (!(array.shape == source.shape) || array.dtype != source.dtype || &array.device() != &source.device())
    throw std::invalid_argument("assign: expected an array of shape " + text(array.shape) + " on " + array.device().name);
  array.device().copy(array.data(), source.data(), array.bytes());
  array.storage->version++;
}

// --- what every eager operation reads

// The array in an object; null, with the exception set, where it was never made (Array.__new__).
const Array* array_in(PyObject* self) {
  const auto* array = static_cast<const Array*>(held(array_type(), self));
  if (!array) PyErr_SetString(PyExc_TypeError, "an Array that was never made");
  return array;
}

// The tuples of shapes seen lately: nothing is built for the next array of that shape, and as keys they are told to be the same at once.
PyObject* array_shape(PyObject* self, void*) {
  static struct {
    Shape shape;
    PyObject* tuple;
  } seen[256];
  const Array* const array = array_in(self);
  if (!array) return nullptr;
  const Shape& shape = array->shape;
  uint64_t hash = uint64_t(shape.rank);
  for (int i = 0; i < shape.rank; i++) hash = hash * 0x9e3779b97f4a7c15u + uint64_t(shape.d[i]);
  auto& entry = seen[hash * 0x9e3779b97f4a7c15u >> 56];
  if (!entry.tuple || !(entry.shape == shape)) {
    PyObject* const tuple = guarded([&] { return py::cast(shape); });
    if (!tuple) return nullptr;
    entry.shape = shape;
    Py_XSETREF(entry.tuple, tuple);
  }
  return Py_NewRef(entry.tuple);
}

PyObject* array_version(PyObject* self, void*) {
  const Array* const array = array_in(self);
  return array ? PyLong_FromLongLong(array->storage->version.load()) : nullptr;
}

PyObject* array_dtype(PyObject* self, void*) {
  static PyObject* names[8];
  const Array* const array = array_in(self);
  if (!array) return nullptr;
  PyObject*& known = names[int(array->dtype)];
  if (!known) known = PyUnicode_InternFromString(name(array->dtype));
  return Py_XNewRef(known);
}

PyGetSetDef getters[] = {{"shape", &array_shape, nullptr, nullptr, nullptr},
                         {"dtype", &array_dtype, nullptr, nullptr, nullptr},
                         {"version", &array_version, nullptr, nullptr, nullptr}};

}  // namespace

py::detail::type_info* array_type() {
  static auto* const type = py::detail::get_type_info(typeid(Array), true);
  return type;
}

// pybind11 gets the holder: an object that it owned before it could remember it would lose what it holds.
py::object wrapped(Array&& array) {
  auto moved = std::make_unique<Array>(std::move(array));
  return py::reinterpret_steal<py::object>(
      py::detail::type_caster_generic::cast(moved.get(), py::return_value_policy::reference, {}, array_type(), nullptr, nullptr, &moved));
}

py::object tape::shape_of(PyObject* array) { return checked(array_shape(array, nullptr)); }

void bind_array(py::module_& m) {
  using py::arg;
  py::class_<Array> type(m, "Array", py::buffer_protocol(), "A dense array; rank 4 has shape (N, C, H, W) and lies N, H, W, C in memory.");
  for (PyGetSetDef& getter : getters)
    type.attr(getter.name) = py::reinterpret_steal<py::object>(PyDescr_NewGetSet(reinterpret_cast<PyTypeObject*>(type.ptr()), &getter));
  type.def_property_readonly("device", [](const Array& a) { return a.device().name; })
      .def_property_readonly("nbytes", &Array::bytes)
      .def_property_readonly("size", &Array::count)
      .def_property_readonly("data_ptr", [](const Array& a) { return reinterpret_cast<uintptr_t>(a.data()); })
      .def("numpy", &to_numpy, "A read-only strided view, no copy; of a copy where the array lies on another device or is bfloat16.")
      .def("view", &Array::view, "The same bytes under another shape; ValueError where that would permute.")
      .def(
          "to", [](const Array& a, const std::string& device) { return on(a, device_named(device)); }, arg("device"), "A copy on a device.")
      .def(
          "pinned",
          [](const Array& a, const std::string& device) {
            refuse_without_bytes(a);
            return a.pinned(device_named(device));
          },
          arg("device"), "A copy in memory of the host that copies to the device need not wait for.")
      .def(
          "follow", [](const Array& a) { a.device().order(a.storage->stream, a.device().stream()); },
          "What this thread's stream is given from now on waits for the stream on which the array was made.")
      .def("constant_on", &constant_on, arg("device"), "A copy on a device of what never changes.")
      .def("copy_from", &copy_from, "Overwrites the values from a numpy array of the same shape.")
      .def("write", &overwrite, "Overwrites the values from a row-major numpy array of the same type; also while a step is recorded.")
      .def("assign", &assign, "Overwrites the values from an array of the same shape, type and device.")
      .def("increment", &increment, "Adds 1 to a counter, an int64 on the CPU.")
      .def("item",
           [](const Array& a) {
             if (a.count() != 1) throw std::invalid_argument("item() needs an array of one element, got shape " + text(a.shape));
             return to_numpy(a).attr("item")();
           })
      .def_property_readonly(
          "__array_interface__",
          [](const Array& a) -> py::object {
            if (!a.device().is_cpu() || a.dtype == Dtype::bfloat16)  // numpy(), a copy, would not outlive this
              throw py::attribute_error("only an array in the CPU's memory, of a type that numpy has, has it; numpy() copies");
            return to_numpy(a).attr("__array_interface__");
          })
      .def_buffer([](Array& a) { return to_numpy(a).request(); });
  bind_exchange(m, type);
  m.def(
      "empty",
      [](const Shape& shape, const std::string& dtype, const std::string& device) {
        Recording* const r = recording();
        const Array array = (r ? imagined : Array::empty)(shape, dtype_named(dtype), device_named(device));
        if (r) r->empty(array);
        return array;
      },
      arg("shape"), arg("dtype") = "float32", arg("device") = "cpu");
  m.def("from_numpy", &from_numpy, arg("array"), arg("device") = "cpu", arg("dtype") = "", "Copies a numpy array of any strides.");
  m.def("constant", &constant, arg("array"), arg("device") = "cpu", arg("dtype") = "",
        "from_numpy for what is the same in every step: allowed while one is recorded.");
  m.def("lies_row_major", &lies_row_major, "Whether row-major order and memory order agree for a shape.");
}
