// The tile instructions of AMX, each with a plain twin (FASTNN_TILES_ON_CPU) that does on any processor with AVX-512 what Intel's manual
// writes down for it. A tile is 16 rows of 64 bytes.
#pragma once
#include "../cpu/operand.h"

namespace fastnn::FASTNN_TABLE {

#if !defined(FASTNN_TILES_ON_CPU)

// Eight tiles of full size, for this thread and as long as this lives: a thread that waits for work keeps none.
class OnTiles {
 public:
  INLINE OnTiles() {
    struct alignas(64) Shapes {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    const Shapes shapes;
    asm volatile("ldtilecfg %0" ::"m"(shapes));
  }
  INLINE ~OnTiles() { asm volatile("tilerelease" ::: "memory"); }
  OnTiles(const OnTiles&) = delete;
};

// Behind each. Close together they take up to half longer where the core has another thread to serve; why, no manual says
// (bench/notes/bfloat16.md, "Room between the tiles' instructions").
#define ROOM(nops) "\n\t.rept " #nops "\n\tnop\n\t.endr"

struct Tiles {
  template <int t>
  INLINE void clear() {
    asm volatile("tilezero %%tmm%c0" ::"i"(t));
  }
  // Rows lie `stride` bytes apart.
  template <int t>
  INLINE void read(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ROOM(16)::"r"(from), "r"(stride), "i"(t) : "memory");
  }
  template <int t>
  INLINE void write(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(t) : "memory");
  }
  // sum[m][n] += over pairs k of a[m][k] b[k][n]
  template <int sum, int a, int b>
  INLINE void multiply() {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ROOM(32)::"i"(sum), "i"(a), "i"(b));
  }
};

#else

struct OnTiles {
  OnTiles() {}
};

struct Tiles {
  alignas(64) operand tile[8][16][16];

  template <int t>
  INLINE void clear() {
    __builtin_memset(tile[t], 0, sizeof tile[t]);
  }
  template <int t>
  INLINE void read(const void* from, int64_t stride) {
    for (int row = 0; row < 16; row++) __builtin_memcpy(tile[t][row], static_cast<const char*>(from) + row * stride, 64);
  }
  template <int t>
  INLINE void write(void* to, int64_t stride) {
    for (int row = 0; row < 16; row++) __builtin_memcpy(static_cast<char*>(to) + row * stride, tile[t][row], 64);
  }
  // The first numbers of all pairs are summed up, and the second ones; both sums are added, then to the tile.
  template <int sum, int a, int b>
  INLINE void multiply() {
    const auto first = [](vec pairs) { return vec(ivec(pairs) << 16); };
    const auto second = [](vec pairs) { return vec(ivec(pairs) & int32_t(0xffff0000)); };
    for (int m = 0; m < 16; m++) {
      vec firsts = zero(), seconds = zero();
      for (int k = 0; k < 16; k++) {
        const vec x = broadcast(&tile[a][m][k]), row = load(tile[b][k]);
        firsts = fma(first(x), first(row), firsts);
        seconds = fma(second(x), second(row), seconds);
      }
      store(tile[sum][m], load(tile[sum][m]) + (firsts + seconds));
    }
  }
};

#endif

}  // namespace fastnn::FASTNN_TABLE
