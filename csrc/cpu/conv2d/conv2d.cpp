// The algorithms of each direction, best first: a function of shape and instruction set alone, where Winograd is not switched off.
#include "winograd_strided.h"

namespace fastnn::FASTNN_TABLE {
namespace {

using List = const ConvAlgorithm* const;
List forward_list[] = {&depthwise_forward,        &winograd4_narrow_forward, &winograd4_forward,  &winograd2_forward,
                       &winograd_strided_forward, &winograd_first_forward,   &one_by_one_forward, &direct_small_c_forward,
                       &direct_taps3_forward,     &direct_forward,           &plain_forward};
List backward_input_list[] = {&depthwise_backward_input, &winograd4_narrow_backward_input, &winograd4_backward_input,
                              &winograd2_backward_input, &winograd_strided_backward_input, &one_by_one_backward_input,
                              &columns_backward_input,   &direct_taps3_backward_input,     &direct_backward_input,
                              &plain_backward_input};
List backward_weight_list[] = {&depthwise_backward_weight,      &winograd4_narrow_backward_weight, &winograd4_backward_weight,
                               &winograd2_backward_weight,      &winograd_strided_backward_weight, &winograd_first_backward_weight,
                               &direct_small_c_backward_weight, &direct_taps3_backward_weight,     &direct_backward_weight,
                               &plain_backward_weight};

template <int count>
const ConvAlgorithm& first_that_accepts(List (&list)[count], const Context& context, const Conv2d& conv) {
  for (int i = 0; i < count - 1 && !is_vast(conv); i++)
    if ((context.winograd || !list[i]->winograd) && list[i]->accepts(conv)) return *list[i];
  return *list[count - 1];
}

template <int count>
Plan plan(List (&list)[count], const Context& context, const Conv2d& conv) {
  const ConvAlgorithm& algorithm = first_that_accepts(list, context, conv);
  const bool keeps = algorithm.packs && may_keep(conv);
  return {algorithm.name, algorithm.scratch_bytes(context, conv), keeps ? 1 : -1};
}

}  // namespace

const ConvAlgorithm& forward_algorithm(const Context& context, const Conv2d& v) { return first_that_accepts(forward_list, context, v); }
const ConvAlgorithm& backward_input_algorithm(const Context& context, const Conv2d& v) {
  return first_that_accepts(backward_input_list, context, v);
}
const ConvAlgorithm& backward_weight_algorithm(const Context& context, const Conv2d& v) {
  return first_that_accepts(backward_weight_list, context, v);
}

Plan conv2d_forward_plan(const Context& context, const Conv2d& conv) { return plan(forward_list, context, conv); }
Plan conv2d_backward_input_plan(const Context& context, const Conv2d& conv) { return plan(backward_input_list, context, conv); }
Plan conv2d_backward_weight_plan(const Context& context, const Conv2d& conv) { return plan(backward_weight_list, context, conv); }

void conv2d_forward(const Context& context, const Conv2d& conv, const T* x, const T* w, const R* b, T* y, void* scratch) {
  forward_algorithm(context, conv).run(context, conv, {x, w, b, y}, scratch);
}
void conv2d_backward_input(const Context& context, const Conv2d& conv, const T* dy, const T* w, T* dx, void* scratch) {
  backward_input_algorithm(context, conv).run(context, conv, {dy, w, nullptr, dx}, scratch);
}
void conv2d_backward_weight(const Context& context, const Conv2d& conv, const T* x, const T* dy, R* dw, void* scratch) {
  backward_weight_algorithm(context, conv).run(context, conv, weight_operands(x, dy, dw), scratch);
}

}  // namespace fastnn::FASTNN_TABLE
