// What passes an Array's memory to other libraries and takes theirs: DLPack and __cuda_array_interface__.
#include <optional>
#include <string_view>

#include "bfloat16.h"
#include "bind.h"
#include "dlpack.h"
#include "recording.h"

using namespace fastnn;

namespace {

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
  const size_t bytes = bytes_of(shape, dtype, device);  // refuses what no strides could be made of
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
  array.storage = std::make_shared<Storage>(device, data, bytes, std::move(release));
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

}  // namespace

void bind_exchange(py::module_& m, py::class_<Array>& type) {
  using py::arg;
  type.def("__dlpack__", &to_dlpack, py::kw_only(), arg("stream") = py::none(), arg("max_version") = py::none(),
           arg("dl_device") = py::none(), arg("copy") = py::none())
      .def("__dlpack_device__",
           [](const Array& a) {
             const DLDevice d = dlpack_device(a.device());
             return py::make_tuple(d.device_type, d.device_id);
           })
      .def_property_readonly("__cuda_array_interface__",
                             [](const Array& a) {
                               if (a.device().is_cpu())
                                 throw py::attribute_error("an array in the CPU's memory has no __cuda_array_interface__");
                               return cuda_array_interface(a);
                             })
      .def_property_readonly("shared", [](const Array& a) { return a.storage->shared.load(); });
  m.def("from_dlpack", &from_dlpack, "Shares the memory of a DLPack capsule; ValueError where its strides do not fit.");
  m.def("from_cuda_array", &from_cuda_array, arg("array"), arg("device") = "cuda",
        "Shares the memory of an object with __cuda_array_interface__; ValueError where its strides do not fit.");
}
