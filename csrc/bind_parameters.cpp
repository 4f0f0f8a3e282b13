// The structs of kernels.h.
#include "bind.h"

namespace pybind11::detail {

// One of the names of an enumeration, in the order of its values
template <class E, size_t n>
E named(const char* what, const std::string& name, const char* const (&names)[n]) {
  std::string all;
  for (size_t i = 0; i < n; i++) {
    if (name == names[i]) return E(i);
    all += std::string(i ? ", " : "") + names[i];
  }
  throw std::invalid_argument(std::string(what) + " '" + name + "' is not one of " + all);
}

template <>
struct type_caster<fastnn::Activation> {
  PYBIND11_TYPE_CASTER(fastnn::Activation, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"none", "relu", "silu", "gelu"};
    return value = named<fastnn::Activation>("activation", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Function> {
  PYBIND11_TYPE_CASTER(fastnn::Function, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"sigmoid", "tanh", "scaled_relu", "leaky_relu", "elu", "gelu", "gelu_tanh", "softplus", "abs", "clip"};
    return value = named<fastnn::Function>("function", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Comparison> {
  PYBIND11_TYPE_CASTER(fastnn::Comparison, const_name("str"));
  bool load(handle source, bool) {
    const char* const names[] = {"equal", "not_equal", "less", "less_equal", "greater", "greater_equal"};
    return value = named<fastnn::Comparison>("comparison", py::cast<std::string>(source), names), true;
  }
};

template <>
struct type_caster<fastnn::Reduction> {
  PYBIND11_TYPE_CASTER(fastnn::Reduction, const_name("str"));
  bool load(handle source, bool) {
    const std::string name = py::cast<std::string>(source);
    const char* names[] = {"none", "mean", "sum"};
    for (int i = 0; i < 3; i++)
      if (name == names[i]) return value = fastnn::Reduction(i), true;
    throw std::invalid_argument("reduction '" + name + "' is not one of none, mean, sum");
  }
};

}  // namespace pybind11::detail

using namespace fastnn;

void bind_parameters(py::module_& m) {
  using py::arg;
  const Pair one{1, 1}, none{0, 0};
  auto pair = [](Pair p) { return py::make_tuple(p.h, p.w); };
  py::class_<Conv2d>(m, "Conv2d")
      .def(made<Shape, Shape, Pair, Pair, Pair, Pair, int64_t, Activation, bool>(), arg("x_shape"), arg("w_shape"),
           arg("stride") = pair(one), arg("pad_before") = pair(none), arg("pad_after") = pair(none), arg("dilation") = pair(one),
           arg("groups") = 1, arg("activation") = "none", arg("weights_stay") = false)
      .def_property_readonly("y_shape", &Conv2d::y_shape);
  py::class_<MatMul>(m, "MatMul")
      .def(made<Shape, Shape, bool, bool, Activation>(), arg("a_shape"), arg("b_shape"), arg("transpose_a") = false,
           arg("transpose_b") = false, arg("activation") = "none")
      .def_property_readonly("y_shape", &MatMul::y_shape);
  py::class_<Channels>(m, "Channels").def(made<Shape>(), arg("shape"));
  py::class_<Pool2d>(m, "Pool2d")
      .def(made<Shape, Pair, Pair, Pair, bool, Pair, Activation>(), arg("x_shape"), arg("kernel"), arg("stride"), arg("pad") = pair(none),
           arg("ceil_mode") = false, arg("dilation") = pair(one), arg("activation") = "none")
      .def_property_readonly("y_shape", &Pool2d::y_shape);
  py::class_<GlobalPool>(m, "GlobalPool").def(made<Shape>(), arg("x_shape")).def_property_readonly("y_shape", &GlobalPool::y_shape);
  py::class_<AvgPool2d>(m, "AvgPool2d")
      .def(made<Shape, Pair>(), arg("x_shape"), arg("output"))
      .def(made<Shape, Pair, Pair, Pair, bool, bool, int64_t>(), arg("x_shape"), arg("kernel"), arg("stride"), arg("pad") = pair(none),
           arg("ceil_mode") = false, arg("count_include_pad") = true, arg("divisor_override") = 0)
      .def_property_readonly("y_shape", &AvgPool2d::y_shape);
  py::class_<RegionPool2d>(m, "RegionPool2d")
      .def(made<Shape, Pair, Pair, bool>(), arg("x_shape"), arg("output"), arg("window"), arg("per_sample"))
      .def_property_readonly("y_shape", &RegionPool2d::y_shape);
  py::class_<PoolPlaces>(m, "PoolPlaces")
      .def(made<Shape, int64_t, int64_t, Pair, bool>(), arg("y_shape"), arg("width"), arg("window_width"), arg("dilation") = pair(one),
           arg("per_sample") = false);
  py::class_<FractionalRegions>(m, "FractionalRegions")
      .def(made<Shape, Pair, Pair, bool, int64_t, int64_t>(), arg("x_shape"), arg("output"), arg("window"), arg("pseudo_random") = false,
           arg("draw") = 0, arg("offset") = 0);
  py::class_<Upsample2d>(m, "Upsample2d")
      .def(made<Shape, Pair, bool, bool, double, double>(), arg("x_shape"), arg("output"), arg("bilinear") = false,
           arg("align_corners") = false, arg("scale_h") = 0.0, arg("scale_w") = 0.0)
      .def_property_readonly("y_shape", &Upsample2d::y_shape);
  py::class_<LayerNorm>(m, "LayerNorm")
      .def(made<Shape, int64_t, double, bool>(), arg("x_shape"), arg("dims"), arg("eps") = 1e-5, arg("affine") = true)
      .def_property_readonly("gamma_shape", &LayerNorm::gamma_shape);
  py::class_<GroupNorm>(m, "GroupNorm")
      .def(made<Shape, int64_t, double, bool>(), arg("x_shape"), arg("groups"), arg("eps") = 1e-5, arg("affine") = true);
  py::class_<BatchNorm>(m, "BatchNorm")
      .def(made<Shape, double, double, Activation, bool, bool>(), arg("x_shape"), arg("eps") = 1e-5, arg("momentum") = 0.1,
           arg("activation") = "none", arg("training") = true, arg("residual") = false);
  py::class_<Conv2dBatchNorm>(m, "Conv2dBatchNorm")
      .def(made<Shape, Shape, Pair, Pair, Pair, Pair, int64_t, double, double, Activation, bool>(), arg("x_shape"), arg("w_shape"),
           arg("stride") = pair(one), arg("pad_before") = pair(none), arg("pad_after") = pair(none), arg("dilation") = pair(one),
           arg("groups") = 1, arg("eps") = 1e-5, arg("momentum") = 0.1, arg("activation") = "none", arg("residual") = false)
      .def_property_readonly("y_shape", &Conv2dBatchNorm::y_shape);
  py::class_<Elements>(m, "Elements").def(made<Shape>(), arg("shape"));
  py::class_<Power>(m, "Power").def(made<Shape, double>(), arg("shape"), arg("exponent"));
  py::class_<Dropout>(m, "Dropout")
      .def(made<Shape, double, int64_t, int64_t, bool>(), arg("shape"), arg("p"), arg("draw") = 0, arg("offset") = 0,
           arg("inverted") = true);
  py::class_<GroupDropout>(m, "GroupDropout")
      .def(made([](const Shape& shape, const std::string& unit, double p, int64_t draw, int64_t offset, bool inverted) {
             const char* names[] = {"channel", "sample", "batch"};
             for (int i = 0; i < 3; i++)
               if (unit == names[i]) return GroupDropout(shape, i, p, draw, offset, inverted);
             throw std::invalid_argument("unit '" + unit + "' is not one of channel, sample, batch");
           }),
           arg("shape"), arg("unit"), arg("p"), arg("draw") = 0, arg("offset") = 0, arg("inverted") = true);
  py::class_<Noise>(m, "Noise").def(made<Shape, double, int64_t, int64_t>(), arg("shape"), arg("std"), arg("draw") = 0, arg("offset") = 0);
  py::class_<Pointwise>(m, "Pointwise")
      .def(made<Shape, Function, double, double>(), arg("shape"), arg("function"), arg("a") = 0.0, arg("b") = 0.0);
  py::class_<Binary>(m, "Binary")
      .def(made<Shape, Shape>(), arg("a_shape"), arg("b_shape"))
      .def_property_readonly("y_shape", &Binary::y_shape);
  py::class_<Compare>(m, "Compare")
      .def(made<Shape, Shape, Comparison>(), arg("a_shape"), arg("b_shape"), arg("comparison"))
      .def_property_readonly("y_shape", &Compare::y_shape);
  py::class_<GatherAlong>(m, "GatherAlong")
      .def(made<Shape, Shape, int, bool>(), arg("x_shape"), arg("index_shape"), arg("axis") = 0, arg("flat") = false)
      .def_property_readonly("y_shape", &GatherAlong::y_shape);
  py::class_<Reduce>(m, "Reduce")
      .def(made([](const Shape& x, const std::vector<int>& axes, bool keepdims) {
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
      .def_static(
          "channel_groups", [](const Shape& x, int64_t pieces) { return Reduce(x, pieces); }, arg("x_shape"), arg("pieces"))
      .def_property_readonly("y_shape", &Reduce::y_shape)
      .def_readonly("reduced_count", &Reduce::reduced_count);
  py::class_<Strided>(m, "Strided")
      .def(made<Shape, Shape, Shape, Shape, int64_t>(), arg("x_shape"), arg("y_shape"), arg("dims"), arg("stride"), arg("offset") = 0);
  py::class_<CrossEntropy>(m, "CrossEntropy")
      .def(made<Shape, double, int64_t, Reduction>(), arg("logits_shape"), arg("smoothing") = 0.0, arg("ignore_index") = -100,
           arg("reduction") = "mean");
  py::class_<SoftCrossEntropy>(m, "SoftCrossEntropy")
      .def(made<Shape, double, Reduction>(), arg("logits_shape"), arg("smoothing") = 0.0, arg("reduction") = "mean");
  py::class_<MultiMargin>(m, "MultiMargin")
      .def(made<Shape, int, double, double, Reduction>(), arg("scores_shape"), arg("p") = 1, arg("margin") = 1.0, arg("scale") = 1.0,
           arg("reduction") = "mean");
  py::class_<ElementLoss>(m, "ElementLoss")
      .def(made<Shape, double, double, double, Reduction>(), arg("shape"), arg("width"), arg("curve"), arg("slope"),
           arg("reduction") = "mean");
  py::class_<BinaryCrossEntropy>(m, "BinaryCrossEntropy").def(made<Shape, Reduction>(), arg("shape"), arg("reduction") = "mean");
  py::class_<Penalty>(m, "Penalty").def(made<int64_t, double, double>(), arg("count"), arg("l1") = 0.0, arg("l2") = 0.0);
  py::class_<Softmax>(m, "Softmax").def(made<Shape, int>(), arg("x_shape"), arg("dim"));
  py::class_<Distance>(m, "Distance").def(made<Shape, Shape, int>(), arg("a_shape"), arg("b_shape"), arg("p") = 2);
  m.attr("update_piece") = update_piece;
  auto update = [](auto type) { type.def(made<int64_t, int64_t, int64_t>(), arg("count"), arg("groups") = 1, arg("pieces") = 0); };
  update(py::class_<SGD>(m, "SGD"));
  update(py::class_<Adam>(m, "Adam"));
  update(py::class_<Adagrad>(m, "Adagrad"));
  update(py::class_<RMSprop>(m, "RMSprop"));
  py::class_<Muon>(m, "Muon").def(made<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, double, double, double>(), arg("count"),
                                  arg("groups"), arg("pieces"), arg("rows"), arg("columns"), arg("steps"), arg("a") = 3.4445,
                                  arg("b") = -4.7750, arg("c") = 2.0315);
  py::class_<ParameterList>(m, "ParameterList").def(made<int64_t>(), arg("count"));
  py::class_<Gather>(m, "Gather").def(made<Shape, int64_t>(), arg("source_shape"), arg("batch"));
  py::class_<Augment>(m, "Augment")
      .def(made([](const Shape& source, int64_t batch, Pair size, const std::string& border, bool warped, bool coloured) {
             const char* names[] = {"constant", "edge", "reflect"};
             for (int i = 0; i < 3; i++)
               if (border == names[i]) return Augment(source, batch, size, Border(i), warped, coloured);
             throw std::invalid_argument("border '" + border + "' is not one of constant, edge, reflect");
           }),
           arg("source_shape"), arg("batch"), arg("size"), arg("border") = "constant", arg("warped") = false, arg("coloured") = false);
  py::class_<Random>(m, "Random").def(made<int64_t, int64_t, int64_t>(), arg("n"), arg("draw"), arg("purpose"));
}
