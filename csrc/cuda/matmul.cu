// y = activation(op(a) op(b) + bias). Where y has few tiles and the depth is long, the depth is cut into parts, as in a weight gradient.
#include "gemm.cuh"

namespace fastnn::FASTNN_TABLE {
namespace {

constexpr WayNames at_once_names = WAY_NAMES("gemm"), split_names = WAY_NAMES("gemm_split");

template <bool a_along, bool b_along, int vector, class Element>
struct Products {
  using Part = fastnn::FASTNN_TABLE::Part<Matrix<a_along, vector>, Matrix<b_along, vector>, RowTarget<Element>>;
  const T* a;
  const T* b;
  const float* bias;
  Element* y;  // [batch][part][M][N]
  int64_t M, N, K, parts, length;
  Activation activation;
  bool whole;

  __device__ __forceinline__ Part part(int64_t slice) const {
    const int64_t batch = slice / parts, begin = slice % parts * length;
    const Matrix<a_along, vector> left = {a + batch * M * K, M, K, a_along ? K : M};
    const Matrix<b_along, vector> right = {b + batch * K * N, N, K, b_along ? K : N};
    return {left, right, {y + slice * M * N, N, bias, activation, whole}, M, N, begin, smaller(K, begin + length)};
  }
};

// Whether rows of both operands are made of 16 bytes
int vector_of(const MatMul& v) {
  const int64_t a = v.transpose_a ? v.M : v.K, b = v.transpose_b ? v.K : v.N;
  return a % whole_vector || b % whole_vector ? 1 : whole_vector;
}

struct Cut {
  Split split;
  explicit Cut(const MatMul& v) : split(v.K, Tiles(vector_of(v))[size(v, vector_of(v))].count(v.M, v.N) * v.batch) {}
  bool is_split() const { return split.count > 1; }
  static TileSize size(const MatMul& v, Vectors vectors) { return split_tile_size(v.M, v.N, v.K, v.batch, vectors); }
};

template <bool a_along, bool b_along, int vector, class Element>
void run_products(const Context& context, const MatMul& v, const T* a, const T* b, const R* bias, Element* y) {
  const Split split = Cut(v).split;
  const bool whole = v.N % (16 / int64_t(sizeof(Element))) == 0 && is_aligned(y, 16);
  const Activation activation = split.count > 1 ? Activation::none : v.activation;
  const Products<a_along, b_along, vector, Element> problem = {a, b, bias, y, v.M, v.N, v.K, split.count, split.length, activation, whole};
  const Vectors vectors(vector_of(v), vector);
  with_way(context.precision, vectors,
           [&](auto way) { multiply<decltype(way), vector>(context, Cut::size(v, vectors), problem, v.M, v.N, v.batch * split.count); });
}

template <bool a_along, bool b_along, int vector>
void run(const Context& context, const MatMul& v, const T* a, const T* b, const R* bias, T* y, float* partial) {
  if (!Cut(v).is_split()) return run_products<a_along, b_along, vector>(context, v, a, b, bias, y);
  run_products<a_along, b_along, vector>(context, v, a, b, nullptr, partial);
  combine(context, {partial, v.M * v.N, v.N, Cut(v).split.count, v.batch}, bias, y, v.activation);
}

template <bool a_along, bool b_along>
void run(const Context& context, const MatMul& v, const T* a, const T* b, const R* bias, T* y, float* partial) {
  const bool whole = vector_of(v) > 1 && is_aligned(a, 16) && is_aligned(b, 16);
  whole ? run<a_along, b_along, whole_vector>(context, v, a, b, bias, y, partial)
        : run<a_along, b_along, 1>(context, v, a, b, bias, y, partial);
}

}  // namespace

Plan matmul_plan(const Context& context, const MatMul& v) {
  const Cut cut(v);
  if (!cut.is_split()) return {at_once_names.of(context.precision, vector_of(v)), 0};
  return {split_names.of(context.precision, vector_of(v)), v.batch * cut.split.count * v.M * v.N * int64_t(sizeof(float))};
}

void matmul(const Context& context, const MatMul& v, const T* a, const T* b, const R* bias, T* y, void* scratch) {
  float* partial = static_cast<float*>(scratch);
  if (v.transpose_a) {
    v.transpose_b ? run<false, true>(context, v, a, b, bias, y, partial) : run<false, false>(context, v, a, b, bias, y, partial);
  } else {
    v.transpose_b ? run<true, true>(context, v, a, b, bias, y, partial) : run<true, false>(context, v, a, b, bias, y, partial);
  }
}

}  // namespace fastnn::FASTNN_TABLE
