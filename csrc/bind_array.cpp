// Array for Python: numpy's views, DLPack and __cuda_array_interface__.
#include <optional>
#include <string_view>

#include "bfloat16.h"
#include "dlpack.h"
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

// --- DLPack

enum DLDeviceType : int32_t { dl_cpu = 1, dl_cuda = 2, dl_cuda_host = 3, dl_extension = 12 };

// Devices that only imitate a GPU are nobody else's business.
DLDevice dlpack_device(const Device& device) {
  if (device.is_cpu()) return {dl_cpu, 0};
  return {device.backend->name == std::string("cuda") ? dl_cuda : dl_extension, device.index};
}

Device& device_of(const DLDevice& d) {
  switch (d.device_type) {
    case dl_cpu:
    case dl_cuda_host: return cpu();  // the latter is pinned
    case dl_cuda: return device_named("cuda:" + std::to_string(d.device_id));
    case dl_extension: return device_named("cuda-emulated:" + std::to_string(d.device_id));
  }
  throw std::invalid_argument("from_dlpack: the array lies on device type " + std::to_string(d.device_type) +
                              "; expected 1 (CPU) or 2 (CUDA)");
}

DLDataType dlpack_type(Dtype dtype) {
  const uint8_t bits = uint8_t(8 * item_size(dtype));
  switch (dtype) {
    case Dtype::int64: return {0, bits, 1};
    case Dtype::uint8: return {1, bits, 1};
    case Dtype::boolean: return {6, bits, 1};
    case Dtype::bfloat16: return {4, bits, 1};
    default: return {2, bits, 1};
  }
}

template <class Managed>
struct Exported {
  std::shared_ptr<Storage> storage;
  Shape shape, strides;
  Managed managed;
};

template <class Managed>
py::capsule capsule_of(const Array& array, [[maybe_unused]] bool copied) {
  array.storage->shared = true;
  auto* e = new Exported<Managed>{array.storage, array.shape, strides_of(array.shape), {}};
  Managed& managed = e->managed;
  managed.dl_tensor = {
      array.data(), dlpack_device(array.device()), array.shape.rank, dlpack_type(array.dtype), e->shape.d, e->strides.d, 0};
  managed.manager_ctx = e;
  managed.deleter = [](Managed* m) { delete static_cast<Exported<Managed>*>(m->manager_ctx); };
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>)
    managed.version = {1, 0}, managed.flags = copied ? Managed::is_copied : 0;
  return py::reinterpret_steal<py::capsule>(PyCapsule_New(&managed, Managed::name, [](PyObject* capsule) {
    if (!PyCapsule_IsValid(capsule, Managed::name)) return;  // consumed: the consumer calls the deleter
    auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule, Managed::name));
    m->deleter(m);
  }));
}

[[noreturn]] void refuse_buffer(const std::string& why) { throw py::buffer_error(why); }

// Of another library: 1 and 2 are the legacy default stream and the thread's, and handles of these.
void* stream_of(int64_t number, const char* what) {
  if (number > 0) return reinterpret_cast<void*>(number);
  throw std::invalid_argument(std::string(what) + ": stream " + std::to_string(number) +
                              "; 1 is the legacy default stream, 2 the thread's default stream, others are their handle");
}

// https://data-apis.org/array-api/latest/API_specification/generated/array_api.array.__dlpack__.html
py::capsule to_dlpack(const Array& array, std::optional<int64_t> stream, std::optional<std::pair<int, int>> version,
                      std::optional<std::pair<int, int>> wanted, std::optional<bool> copy) {
  refuse_while_recording("an array is handed to another library");
  refuse_imagined(array);
  const DLDevice mine = dlpack_device(array.device());
  const bool elsewhere = wanted && *wanted != std::make_pair(int(mine.device_type), int(mine.device_id));
  if (elsewhere && (wanted->first != dl_cpu || copy == false))
    refuse_buffer("this tensor lies on " + array.device().name + ", device (" + std::to_string(mine.device_type) + ", " +
                  std::to_string(mine.device_id) + "); it cannot be handed to device (" + std::to_string(wanted->first) + ", " +
                  std::to_string(wanted->second) + ")" + (wanted->first == dl_cpu ? " without a copy" : ""));
  const bool copied = elsewhere || copy == true;
  const Array given = elsewhere ? on(array, cpu()) : copied ? on(array, array.device()) : array;
  Device& device = given.device();
  if (array.device().is_cpu() && stream) throw std::invalid_argument("__dlpack__: an array in the CPU's memory has no stream");
  if (!device.is_cpu() && stream != -1) {
    void* consumer = stream_of(stream.value_or(1), "__dlpack__");
    device.order(device.stream(), consumer);
    given.storage->used_on(consumer);
  }
  return version && version->first >= 1 ? capsule_of<DLManagedTensorVersioned>(given, copied) : capsule_of<DLManagedTensor>(given, copied);
}

// An array over memory of others, once its strides (in elements; null: row-major) are found to be ours.
Array share(const char* what, void* data, Dtype dtype, const Shape& shape, const int64_t* strides, Device& device,
            std::function<void()> release) {
  Array array;
  array.shape = shape, array.dtype = dtype;
  const Shape wanted = strides_of(shape);
  int64_t row_major = 1;
  for (int i = shape.rank; i-- > 0; row_major *= shape.d[i]) {
    const int64_t stride = strides ? strides[i] : row_major;
    if (shape.d[i] > 1 && count(shape) > 0 && stride != wanted.d[i])
      throw std::invalid_argument(std::string(what) + ": shape " + text(shape) + " has stride " + std::to_string(stride) +
                                  " in dimension " + std::to_string(i) + ", fastnn needs " + std::to_string(wanted.d[i]) +
                                  (shape.rank == 4 ? " (rank 4 lies N, H, W, C)" : " (row-major)") + "; fastnn.tensor(a) makes a copy");
  }
  if (const size_t item = item_size(dtype); reinterpret_cast<uintptr_t>(data) % item)
    throw std::invalid_argument(std::string(what) + ": its memory begins " + std::to_string(reinterpret_cast<uintptr_t>(data) % item) +
                                " bytes behind a boundary of its elements; fastnn.tensor(a) makes a copy");
  array.storage = std::make_shared<Storage>(device, data, bytes_of(shape, dtype, device), std::move(release));
  array.storage->shared = true;
  return array;
}

Shape shape_of(const char* what, int64_t rank, const int64_t* sizes) {
  if (rank < 0 || rank > max_rank)
    throw std::invalid_argument(std::string(what) + ": rank " + std::to_string(rank) + "; expected 0 to " + std::to_string(max_rank));
  Shape shape;
  shape.rank = int(rank);
  for (int i = 0; i < shape.rank; i++) {
    if (sizes[i] < 0) throw std::invalid_argument(std::string(what) + ": a dimension of size " + std::to_string(sizes[i]));
    shape.d[i] = sizes[i];
  }
  return shape;
}

constexpr Dtype dtypes[] = {Dtype::float32, Dtype::float64, Dtype::uint8, Dtype::int64, Dtype::boolean, Dtype::bfloat16};

template <class Managed>
Array from_capsule(const py::object& capsule) {
  auto* m = static_cast<Managed*>(PyCapsule_GetPointer(capsule.ptr(), Managed::name));
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) {
    if (m->version.major != 1) refuse_buffer("from_dlpack: DLPack version " + std::to_string(m->version.major) + "; expected 1");
    if (m->flags & Managed::read_only) refuse_buffer("from_dlpack: the array is read-only; fastnn.tensor(a) makes a copy");
  }
  const DLTensor& t = m->dl_tensor;
  Device& device = device_of(t.device);
  for (Dtype dtype : dtypes) {
    const DLDataType mine = dlpack_type(dtype);
    if (mine.code != t.dtype.code || mine.bits != t.dtype.bits || t.dtype.lanes != 1) continue;
    Array array = share("from_dlpack", static_cast<char*>(t.data) + t.byte_offset, dtype, shape_of("from_dlpack", t.ndim, t.shape),
                        t.strides, device, [m] {
                          if (m->deleter) {
                            py::gil_scoped_acquire gil;
                            m->deleter(m);
                          }
                        });
    PyCapsule_SetName(capsule.ptr(), Managed::used);
    return array;
  }
  throw TypeMismatch("from_dlpack: its dtype has no counterpart here; convert to float32, float64, uint8, int64 or bool");
}

Array from_dlpack(const py::object& capsule) {
  PyObject* const given = capsule.ptr();
  if (!PyCapsule_CheckExact(given))
    throw TypeMismatch(std::string("from_dlpack: expected a capsule, as __dlpack__() makes it, got ") + Py_TYPE(given)->tp_name);
  if (PyCapsule_IsValid(given, DLManagedTensorVersioned::name)) return from_capsule<DLManagedTensorVersioned>(capsule);
  if (PyCapsule_IsValid(given, DLManagedTensor::name)) return from_capsule<DLManagedTensor>(capsule);
  const char* const name = PyCapsule_GetName(given);
  const std::string_view found = name ? name : "";
  if (found == DLManagedTensorVersioned::used || found == DLManagedTensor::used)
    throw std::invalid_argument("from_dlpack: the capsule was taken already; __dlpack__() has to make another one for each call");
  throw std::invalid_argument("from_dlpack: a capsule named '" + std::string(found) + "'; expected one that __dlpack__() makes");
}

// --- https://numba.readthedocs.io/en/stable/cuda/cuda_array_interface.html, version 3

constexpr const char* bfloat16_typestr = "<V2";  // as PyTorch has it: numpy's typestr has no name for it

py::dict cuda_array_interface(const Array& array) {
  refuse_while_recording("an array is handed to another library");
  refuse_imagined(array);
  const Shape strides = strides_of(array.shape);
  py::list shape, bytes;
  for (int i = 0; i < array.shape.rank; i++) {
    shape.append(array.shape.d[i]);
    bytes.append(strides.d[i] * int64_t(item_size(array.dtype)));
  }
  py::dict d;
  d["shape"] = py::tuple(shape), d["strides"] = py::tuple(bytes);
  d["typestr"] = array.dtype == Dtype::bfloat16 ? py::str(bfloat16_typestr) : py::str(numpy_dtype(array.dtype).attr("str"));
  d["data"] = py::make_tuple(reinterpret_cast<uintptr_t>(array.data()), false);
  d["version"] = 3;
  array.storage->shared = true;
  array.device().synchronize();
  return d;
}

// The driver knows where memory lies; the producer's word, or the default's, would make kernels read what another device has.
void expect_on(Device& device, const void* address, int64_t elements) {
  if (device.is_cpu()) throw std::invalid_argument("from_cuda_array: device 'cpu' has no such arrays; name a GPU");
  if (!elements) return;
  int index = -1;
  device.select();
  device.check(device.backend->locate(address, &index));
  if (index == device.index) return;
  const std::string family = device.name.substr(0, device.name.find(':') + 1);
  throw std::invalid_argument("from_cuda_array: the array does not lie on " + device.name +
                              (index < 0 ? ", nor on any other GPU" : "; pass device='" + family + std::to_string(index) + "'"));
}

Array from_cuda_array(const py::object& owner, const std::string& device_name) {
  const py::dict d = owner.attr("__cuda_array_interface__");
  const auto sizes = py::cast<std::vector<int64_t>>(d["shape"]);
  const Shape shape = shape_of("from_cuda_array", int64_t(sizes.size()), sizes.data());
  const std::string type = py::cast<std::string>(d["typestr"]);
  Device& device = device_named(device_name);
  const Dtype dtype = type == bfloat16_typestr ? Dtype::bfloat16 : dtype_named(py::cast<std::string>(py::str(py::dtype(type))));
  const auto item = int64_t(item_size(dtype));
  const auto given = [&](const char* key) { return d.contains(key) && !d[key].is_none(); };
  std::vector<int64_t> strides;
  if (given("strides"))
    for (int64_t bytes : py::cast<std::vector<int64_t>>(d["strides"])) {
      if (bytes % item) throw std::invalid_argument("from_cuda_array: a stride of " + std::to_string(bytes) + " bytes cuts elements");
      strides.push_back(bytes / item);
    }
  if (given("strides") && strides.size() != sizes.size())
    throw std::invalid_argument("from_cuda_array: shape " + text(shape) + " with " + std::to_string(strides.size()) + " strides");
  const py::sequence data(d["data"]);
  if (given("mask") || py::cast<bool>(data[1]))
    refuse_buffer(std::string("from_cuda_array: the array is ") + (given("mask") ? "masked" : "read-only") +
                  "; fastnn.tensor(a) makes a copy");
  const auto address = py::cast<uintptr_t>(data[0]);
  expect_on(device, reinterpret_cast<void*>(address), count(shape));
  if (!given("version") || py::cast<int>(d["version"]) < 3) device.finish();  // which say nothing about who still writes there
  if (given("stream")) device.order(stream_of(py::cast<int64_t>(d["stream"]), "from_cuda_array"), device.stream());
  const std::shared_ptr<py::object> held(new py::object(owner), [](py::object* object) {
    py::gil_scoped_acquire gil;
    delete object;
  });
  return share("from_cuda_array", reinterpret_cast<void*>(address), dtype, shape, strides.empty() ? nullptr : strides.data(), device,
               [held] {});
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
      .def_property_readonly("shared", [](const Array& a) { return a.storage->shared.load(); })
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
      .def("__dlpack__", &to_dlpack, py::kw_only(), arg("stream") = py::none(), arg("max_version") = py::none(),
           arg("dl_device") = py::none(), arg("copy") = py::none())
      .def("__dlpack_device__",
           [](const Array& a) {
             const DLDevice d = dlpack_device(a.device());
             return py::make_tuple(d.device_type, d.device_id);
           })
      .def_property_readonly(
          "__array_interface__",
          [](const Array& a) -> py::object {
            if (!a.device().is_cpu() || a.dtype == Dtype::bfloat16)  // numpy(), a copy, would not outlive this
              throw py::attribute_error("only an array in the CPU's memory, of a type that numpy has, has it; numpy() copies");
            return to_numpy(a).attr("__array_interface__");
          })
      .def_property_readonly("__cuda_array_interface__",
                             [](const Array& a) {
                               if (a.device().is_cpu())
                                 throw py::attribute_error("an array in the CPU's memory has no __cuda_array_interface__");
                               return cuda_array_interface(a);
                             })
      .def_buffer([](Array& a) { return to_numpy(a).request(); });
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
  m.def("from_dlpack", &from_dlpack, "Shares the memory of a DLPack capsule; ValueError where its strides do not fit.");
  m.def("from_cuda_array", &from_cuda_array, arg("array"), arg("device") = "cuda",
        "Shares the memory of an object with __cuda_array_interface__; ValueError where its strides do not fit.");
  m.def("lies_row_major", &lies_row_major, "Whether row-major order and memory order agree for a shape.");
}
