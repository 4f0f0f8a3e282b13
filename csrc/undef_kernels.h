// Included after kernels.def: forgets the macros that a reader of the rows defined.
#undef KERNEL
#undef PLANNED
#undef IN
#undef OUT
#undef INOUT
#undef MAYBE_IN
#undef MAYBE_INOUT
#undef LIST_IN
#undef LIST_INOUT
