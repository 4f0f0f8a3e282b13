// Kernels that are right, and kernels with one planted fault each: `faults NAME` runs one and prints what came of it. test_cuda_on_cpu.py
// knows what should, in every order of threads, and under the sanitizers.
#include <cuda_runtime.h>

#include <cstdio>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr unsigned all_lanes = ~0u;
constexpr int block = 256;

template <class E>
E* shared(int n) {
  return static_cast<E*>(cuda_on_cpu::shared_memory(n * int64_t(sizeof(E))));
}

template <class E>
struct DeviceArray {  // of exactly n elements
  explicit DeviceArray(int n, E value = E()) : n(n) {
    void* bytes = nullptr;
    cudaMalloc(&bytes, size_t(n) * sizeof(E));
    data = static_cast<E*>(bytes);
    for (int i = 0; i < n; i++) data[i] = value;
  }
  ~DeviceArray() { cudaFree(data); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  int n;
  E* data;
};

// The kernel's failure, or whether its numbers are right.
template <class F, class Check>
std::string outcome(dim3 grid, dim3 threads, int64_t shared_bytes, F kernel, Check right) {
  const cudaError_t error = cuda_on_cpu::launch(nullptr, grid, threads, shared_bytes, kernel);
  if (error != cudaSuccess) return cudaGetErrorString(error);
  return right() ? "right" : "wrong numbers";
}

// --- right

// out[block] = sum of in over the block's stretch
__global__ void sum_blocks(const int* in, int* out) {
  int* of_warp = shared<int>(block / 32);
  int sum = in[blockIdx.x * blockDim.x + threadIdx.x];
  for (int distance = 16; distance; distance /= 2) sum += __shfl_down_sync(all_lanes, sum, distance);
  if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x >= 32) return;
  sum = threadIdx.x < block / 32 ? of_warp[threadIdx.x] : 0;
  for (int distance = 16; distance; distance /= 2) sum += __shfl_xor_sync(all_lanes, sum, distance);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}

std::string reduction() {
  constexpr int blocks = 5;
  DeviceArray<int> in(blocks * block), out(blocks);
  for (int i = 0; i < in.n; i++) in.data[i] = i % 7;
  return outcome(
      blocks, block, block / 32 * 4, [&] { sum_blocks(in.data, out.data); },
      [&] {
        bool right = true;
        for (int b = 0; b < blocks; b++) {
          int sum = 0;
          for (int i = b * block; i < (b + 1) * block; i++) sum += i % 7;
          right = right && out.data[b] == sum;
        }
        return right;
      });
}

__global__ void use_shuffles(int* wrong) {
  const int lane = int(threadIdx.x), segment = lane / 8 * 8;
  int bad = __shfl_sync(all_lanes, lane * 1.5, 3) != 4.5;
  bad += __shfl_sync(all_lanes, lane, 11, 8) != segment + 3;
  bad += __shfl_up_sync(all_lanes, lane, 2u) != (lane < 2 ? lane : lane - 2);
  bad += __shfl_up_sync(all_lanes, lane, 2u, 8) != (lane % 8 < 2 ? lane : lane - 2);
  bad += __shfl_down_sync(all_lanes, 1LL * lane << 40, 5u, 8) != 1LL * (lane % 8 + 5 < 8 ? lane + 5 : lane) << 40;
  bad += __shfl_xor_sync(all_lanes, lane, 5) != (lane ^ 5);
  bad += __shfl_xor_sync(all_lanes, lane, 8, 8) != (lane & 8 ? lane ^ 8 : lane);
  bad += __ballot_sync(all_lanes, lane % 3 == 0) != 0x49249249u;
  bad += __any_sync(all_lanes, lane == 7) != 1 || __any_sync(all_lanes, lane == 40) != 0;
  bad += __all_sync(all_lanes, lane < 32) != 1 || __all_sync(all_lanes, lane < 31) != 0;
  if (lane < 16) {
    bad += __shfl_xor_sync(0xffffu, lane, 9) != (lane ^ 9);
    bad += __ballot_sync(0xffffu, lane == 4) != 16;
  } else {
    bad += __all_sync(0xffff0000u, lane > 15) != 1;
  }
  wrong[lane] = bad;
}

// Lane i gets what lane 31 - i brought, among the lanes below 24.
__global__ void use_collective(int* wrong) {
  struct Mine {
    int sent, received;
  };
  const int lane = int(threadIdx.x);
  Mine mine{lane * lane, -1};
  if (lane < 24)
    cuda_on_cpu::collective(0x00ffffffu, mine, [](Mine** lanes) {
      for (int i = 0; i < 32; i++)
        if (lanes[i]) lanes[i]->received = lanes[31 - i] ? lanes[31 - i]->sent : 0;
    });
  const int other = 31 - lane;
  wrong[lane] = mine.received != (lane >= 24 ? -1 : other < 24 ? other * other : 0);
}

std::string reductions_by_host_threads() {
  std::vector<std::string> results(4);
  std::vector<std::thread> threads;
  for (std::string& result : results) threads.emplace_back([&] { result = reduction(); });
  for (std::thread& thread : threads) thread.join();
  for (const std::string& result : results)
    if (result != "right") return result;
  return "right";
}

std::string in_a_warp(void (*kernel)(int*)) {
  DeviceArray<int> wrong(32, 1);
  return outcome(
      1, 32, 0, [&] { kernel(wrong.data); },
      [&] {
        int sum = 0;
        for (int i = 0; i < 32; i++) sum += wrong.data[i];
        return sum == 0;
      });
}

__global__ void count_threads(int* counts, int* highest, unsigned long long* total) {
  const unsigned b = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned t = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  counts[b * blockDim.x * blockDim.y * blockDim.z + t]++;
  atomicMax(highest, int(b * 1000 + t));
  atomicAdd(total, 1ull);
}

std::string indices_and_atomics() {
  DeviceArray<int> counts(2 * 3 * 4 * 5 * 6 * 7), highest(1);
  DeviceArray<unsigned long long> total(1);
  return outcome(
      dim3(2, 3, 4), dim3(5, 6, 7), 0, [&] { count_threads(counts.data, highest.data, total.data); },
      [&] {
        bool once = true;
        for (int i = 0; i < counts.n; i++) once = once && counts.data[i] == 1;
        return once && highest.data[0] == 23 * 1000 + 209 && total.data[0] == 5040;
      });
}

std::string denormals() {  // are zero, in what is read and in what is written, and are themselves again for the host
  DeviceArray<float> x(2, 1e-30f);
  x.data[1] = 1e-40f;
  volatile float tiny = 1e-30f;
  return outcome(
      1, 2, 0, [&] { x.data[threadIdx.x] *= threadIdx.x ? 1e20f : 1e-10f; },
      [&] { return x.data[0] == 0 && x.data[1] == 0 && tiny * 1e-10f > 0; });
}

// Two stages of four numbers per thread; those past the end of `in` become zero.
__global__ void double_in_stages(const float* in, float* out, int n, int stages, int groups_left) {
  float* stage[2] = {shared<float>(8 * 32), shared<float>(8 * 32) + 4 * 32};
  const int lane = int(threadIdx.x);
  for (int s = 0; s <= stages; s++) {
    const int at = (s * 32 + lane) * 4;
    const int left = n - at < 0 ? 0 : n - at > 4 ? 4 : n - at;
    if (s < stages) cuda_on_cpu::copy_async(stage[s % 2] + lane * 4, left ? in + at : in, 16, left * 4);
    cuda_on_cpu::copy_async_commit();
    if (s == 0) continue;
    cuda_on_cpu::copy_async_wait(groups_left);
    __syncthreads();
    for (int i = 0; i < 4; i++) out[(s - 1) * 128 + i * 32 + lane] = 2 * stage[(s - 1) % 2][i * 32 + lane];
    __syncthreads();
  }
  cuda_on_cpu::copy_async_wait(0);
}

std::string staged_copies(int groups_left) {
  constexpr int n = 301, stages = 3;
  DeviceArray<float> in(n), out(stages * 128);
  for (int i = 0; i < n; i++) in.data[i] = float(i);
  return outcome(
      1, 32, 8 * 32 * 4, [&] { double_in_stages(in.data, out.data, n, stages, groups_left); },
      [&] {
        bool right = true;
        for (int i = 0; i < out.n; i++) right = right && out.data[i] == (i < n ? 2.0f * float(i) : 0.0f);
        return right;
      });
}

// --- faults

__global__ void rotate(const int* in, int* out, bool barrier) {
  int* s = shared<int>(block);
  s[threadIdx.x] = in[threadIdx.x];
  if (barrier) __syncthreads();
  out[threadIdx.x] = s[(threadIdx.x + 37) % block];
}

std::string rotation(bool barrier) {
  DeviceArray<int> in(block), out(block);
  for (int i = 0; i < block; i++) in.data[i] = i;
  return outcome(
      1, block, block * 4, [&] { rotate(in.data, out.data, barrier); },
      [&] {
        bool right = true;
        for (int i = 0; i < block; i++) right = right && out.data[i] == (i + 37) % block;
        return right;
      });
}

// Right in any order of fibers, yet a race on a GPU: a shuffle lets lanes meet, but promises nothing about memory.
__global__ void shuffle_as_barrier(int* out, bool barrier) {
  int* s = shared<int>(32);
  s[threadIdx.x] = int(threadIdx.x);
  __shfl_sync(all_lanes, 0, 0);
  if (barrier) __syncwarp();
  out[threadIdx.x] = s[threadIdx.x ^ 1];
}

std::string within_a_warp(bool barrier) {
  DeviceArray<int> out(32);
  return outcome(1, 32, 32 * 4, [&] { shuffle_as_barrier(out.data, barrier); }, [&] { return out.data[4] == 5 && out.data[5] == 4; });
}

__global__ void everybody_writes(int* x) {
  if (threadIdx.x == 0) *x = 1;
}

std::string between_blocks() {
  DeviceArray<int> x(1);
  return outcome(2, 32, 0, [&] { everybody_writes(x.data); }, [&] { return x.data[0] == 1; });
}

__global__ void divergent_barrier() {
  if (threadIdx.x == 5) return;
  __syncthreads();
}
__global__ void two_barriers() {
  if (threadIdx.x == 5)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void exited_lane() {
  if (threadIdx.x != 5) __syncwarp();
}
__global__ void missing_lane() { __syncwarp(); }
__global__ void not_in_mask() { __syncwarp(threadIdx.x == 5 ? ~32u : all_lanes); }
__global__ void different_masks() { __syncwarp(threadIdx.x < 16 ? all_lanes : 0xffff0000u); }
__global__ void source_outside_mask() {
  if (threadIdx.x < 16) __shfl_sync(0xffffu, 1, 20);
}
__global__ void deadlock() {
  if (threadIdx.x == 5)
    __syncthreads();
  else
    __syncwarp();
}
__global__ void exception() {
  if (threadIdx.x == 5) throw std::runtime_error("out of cheese");
}
__global__ void too_much_shared() { shared<int>(9)[0] = 1; }
__global__ void never_waited(const float* in, int offset) {
  cuda_on_cpu::copy_async(shared<float>(8), in + offset, 16, 16);
  cuda_on_cpu::copy_async_commit();
}

// A launch that fails, and a sound one after it.
template <class F>
std::string failure(int threads, F kernel) {
  std::string message = outcome(1, threads, 32, kernel, [] { return true; });
  const std::string after = reduction();
  return after == "right" ? message : message + "; the next launch: " + after;
}

std::string overrun_of_global() {
  DeviceArray<int> x(33);
  return outcome(2, 32, 0, [&] { x.data[(blockIdx.x * 32 + threadIdx.x) % 34] = 1; }, [] { return true; });
}
std::string overrun_of_shared() {
  return outcome(2, 32, 31 * 4, [] { shared<int>(31)[threadIdx.x] = 1; }, [] { return true; });
}

std::string memory_limit() {  // with FASTNN_EMULATED_MEMORY=1000
  void *a = nullptr, *b = nullptr;
  size_t free = 0, total = 0;
  bool right = cudaMalloc(&a, 600) == cudaSuccess && cudaMalloc(&b, 600) == cudaErrorMemoryAllocation && !b;
  right = right && cudaGetLastError() == cudaErrorMemoryAllocation && cudaGetLastError() == cudaSuccess;
  right = right && cudaMemGetInfo(&free, &total) == cudaSuccess && free == 400 && total == 1000;
  right = right && cudaSetDevice(1) == cudaSuccess && cudaMalloc(&b, 1000) == cudaSuccess;
  right = right && cudaFree(a) == cudaSuccess && cudaFree(a) == cudaErrorInvalidValue && cudaFreeHost(b) == cudaErrorInvalidValue;
  return right && cudaFree(b) == cudaSuccess && cudaSetDevice(2) == cudaErrorInvalidDevice ? "right" : "wrong";
}

const std::map<std::string, std::function<std::string()>> cases = {
    {"reduction", reduction},
    {"host threads", reductions_by_host_threads},
    {"shuffles", [] { return in_a_warp(use_shuffles); }},
    {"collective", [] { return in_a_warp(use_collective); }},
    {"indices and atomics", indices_and_atomics},
    {"denormals", denormals},
    {"barrier", [] { return rotation(true); }},
    {"no barrier", [] { return rotation(false); }},
    {"warp barrier", [] { return within_a_warp(true); }},
    {"no warp barrier", [] { return within_a_warp(false); }},
    {"race between blocks", between_blocks},
    {"copies", [] { return staged_copies(1); }},
    {"copies not waited for", [] { return staged_copies(2); }},
    {"copies never waited for",
     [] {
       const DeviceArray<float> in(4);
       return failure(1, [&] { never_waited(in.data, 0); });
     }},
    {"copies not aligned",
     [] {
       const DeviceArray<float> in(5);
       return failure(1, [&] { never_waited(in.data, 1); });
     }},
    {"divergent barrier", [] { return failure(32, divergent_barrier); }},
    {"two barriers", [] { return failure(32, two_barriers); }},
    {"exited lane", [] { return failure(32, exited_lane); }},
    {"missing lane", [] { return failure(31, missing_lane); }},
    {"not in mask", [] { return failure(32, not_in_mask); }},
    {"different masks", [] { return failure(32, different_masks); }},
    {"source outside mask", [] { return failure(32, source_outside_mask); }},
    {"deadlock", [] { return failure(32, deadlock); }},
    {"exception", [] { return failure(32, exception); }},
    {"too much shared memory", [] { return failure(1, too_much_shared); }},
    {"too many threads", [] { return failure(1025, [] {}); }},
    {"overrun of global memory", overrun_of_global},
    {"overrun of shared memory", overrun_of_shared},
    {"memory limit", memory_limit},
};

}  // namespace

int main(int count, char** names) {
  setvbuf(stdout, nullptr, _IOLBF, 0);  // what was printed stays, whatever comes next
  for (int i = 1; i < count; i++) printf("%s: %s\n", names[i], cases.at(names[i])().c_str());
}
