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

// 64 rows of a chunk's elements, four of a row by each thread; what lies outside reads as 0 on both sides
__device__ __forceinline__ void copy_chunk(const T* x, int64_t rows, int64_t D, int64_t row, int64_t k, bool at_once,
                                           float (&to)[chunk][tile + each]) {
  static_assert(tile * chunk == threads * each);
  const int r = int(threadIdx.x) / (chunk / each), c = int(threadIdx.x) % (chunk / each) * each;
  const int64_t left = row + r < rows ? D - k - c : 0;
  const Pack<T, each> pack = load_some<each>(x + (row + r) * D + k + c, left, at_once);
  UNROLL for (int v = 0; v < each; v++) to[c + v][r] = float(pack.e[v]);
}

template <int p>
__global__ void make_distances(Distance s, bool at_once, const T* a, const T* b, R* y) {
  auto& chunks = shared<Chunks>();
  const int64_t across = divide_up(s.N, tile), row = blockIdx.x / across * tile, column = blockIdx.x % across * tile;
  const int i = int(threadIdx.x) / side * each, j = int(threadIdx.x) % side * each;
  float total[each][each] = {};
  for (int64_t begin = 0; begin < s.D; begin += stretch) {
    float sum[each][each] = {};
    for (int64_t k = begin; k < smaller(begin + stretch, s.D); k += chunk) {
      __syncthreads();
      copy_chunk(a, s.M, s.D, row, k, at_once, chunks.a);
      copy_chunk(b, s.N, s.D, column, k, at_once, chunks.b);
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
    if (row + i + u >= s.M) continue;
    Pack<R, each> pack;
    UNROLL for (int v = 0; v < each; v++) pack.e[v] = total[u][v];
    store_some(y + (row + i + u) * s.N + column + j, pack, s.N - column - j, at_once && s.N % each == 0);
  }
}

}  // namespace

Plan distance_plan(const Context&, const Distance&) { return {"tiles", 0}; }

void distance(const Context& context, const Distance& s, const T* a, const T* b, R* y, void*) {
  const dim3 grid(unsigned(divide_up(s.M, tile) * divide_up(s.N, tile)));
  const bool at_once = s.D % each == 0 && lie_in_packs<each>(a, b, y);
  launch<Chunks>(context, s.p == 1 ? make_distances<1> : make_distances<2>, grid, threads, s, at_once, a, b, y);
}

}  // namespace fastnn::FASTNN_TABLE
