// Distances between rows: a block makes a tile of 64 x 64, a thread 4 x 4 of them, from chunks of both matrices in shared memory.
// Two instructions for each pair of elements (three for L1) and half a read of shared memory; nothing of size M x N x D.
#include "launch.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr int tile = 64, each = 4, chunk = 16, side = tile / each, threads = side * side;
constexpr int64_t stretch = 256;  // long float32 sums are sums of short ones

struct Chunks {  // [element][row], rows padded so that neighbouring elements fall into other banks
  float a[chunk][tile + each], b[chunk][tile + each];
};

// 64 rows of a chunk's elements; what lies outside reads as 0 on both sides
__device__ __forceinline__ void copy_chunk(const T* x, int64_t rows, int64_t D, int64_t row, int64_t k, float (&to)[chunk][tile + each]) {
  for (int i = int(threadIdx.x); i < tile * chunk; i += threads) {
    const int r = i / chunk, c = i % chunk;
    to[c][r] = row + r < rows && k + c < D ? float(x[(row + r) * D + k + c]) : 0.0f;
  }
}

template <int p>
__global__ void make_distances(Distance s, const T* a, const T* b, R* y) {
  auto& chunks = shared<Chunks>();
  const int64_t across = divide_up(s.N, tile), row = blockIdx.x / across * tile, column = blockIdx.x % across * tile;
  const int i = int(threadIdx.x) / side * each, j = int(threadIdx.x) % side * each;
  float total[each][each] = {};
  for (int64_t begin = 0; begin < s.D; begin += stretch) {
    float sum[each][each] = {};
    for (int64_t k = begin; k < smaller(begin + stretch, s.D); k += chunk) {
      __syncthreads();
      copy_chunk(a, s.M, s.D, row, k, chunks.a);
      copy_chunk(b, s.N, s.D, column, k, chunks.b);
      __syncthreads();
      UNROLL for (int c = 0; c < chunk; c++) {
        float of_a[each], of_b[each];
        UNROLL for (int v = 0; v < each; v++) of_a[v] = chunks.a[c][i + v], of_b[v] = chunks.b[c][j + v];
        UNROLL for (int u = 0; u < each; u++) {
          UNROLL for (int v = 0; v < each; v++) {
            const float d = of_a[u] - of_b[v];
            sum[u][v] = p == 1 ? sum[u][v] + fabsf(d) : fmaf(d, d, sum[u][v]);
          }
        }
      }
    }
    UNROLL for (int u = 0; u < each; u++) { UNROLL for (int v = 0; v < each; v++) total[u][v] += sum[u][v]; }
  }
  UNROLL for (int u = 0; u < each; u++) {
    UNROLL for (int v = 0; v < each; v++) {
      if (row + i + u < s.M && column + j + v < s.N) y[(row + i + u) * s.N + column + j + v] = total[u][v];
    }
  }
}

}  // namespace

Plan distance_plan(const Context&, const Distance&) { return {"tiles", 0}; }

void distance(const Context& context, const Distance& s, const T* a, const T* b, R* y, void*) {
  const dim3 grid(unsigned(divide_up(s.M, tile) * divide_up(s.N, tile)));
  launch<Chunks>(context, s.p == 1 ? make_distances<1> : make_distances<2>, grid, threads, s, a, b, y);
}

}  // namespace fastnn::FASTNN_TABLE
