// How TVM's code for the host starts a kernel: a function of TVM's calling convention, whose arguments are the
// kernel's, then the extents of its grid and blocks.
#pragma once

#include <tvm/ffi/c_api.h>

#include <mutex>
#include <tuple>
#include <utility>

#include "intrinsics.h"

namespace nncomp {

enum class Extent { kBlockX, kBlockY, kBlockZ, kGridX, kGridY, kGridZ };

inline double time_limit = 1e30;  // of all launches together, in `seconds`

template <typename T>
inline T argument(const TVMFFIAny& any) {
  if constexpr (std::is_pointer<T>::value) {
    return static_cast<T>(any.v_ptr);
  } else if constexpr (std::is_floating_point<T>::value || !std::is_arithmetic<T>::value) {
    return T(any.v_float64);
  } else {
    return T(any.v_int64);
  }
}

inline void caught(int signal) {
  block.fail(signal == SIGFPE ? "an integer is divided by zero" : "an address outside of all memory");
}

// Turns a fault of a kernel into its failure. While it lives, signals come in on a stack of their own.
class Guard {
 public:
  Guard() {
    stack_t mine = {};
    mine.ss_sp = memory;
    mine.ss_size = sizeof(memory);
    sigaltstack(&mine, &stack);
    struct sigaction action = {};
    action.sa_handler = caught;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < 3; i++) sigaction(kSignals[i], &action, &before[i]);
  }
  ~Guard() {
    for (int i = 0; i < 3; i++) sigaction(kSignals[i], &before[i], nullptr);
    sigaltstack(&stack, nullptr);
  }

 private:
  static constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction before[3];
  stack_t stack;
  char memory[65536];
};

template <typename... T, size_t... I>
inline int launch(const char* name, void (*kernel)(T...), std::index_sequence<I...>, const TVMFFIAny* args, int count,
                  std::initializer_list<Extent> extents) {
  static std::mutex one_at_a_time;
  std::lock_guard<std::mutex> lock(one_at_a_time);
  if (count != int(sizeof...(T) + extents.size())) {
    TVMFFIErrorSetRaisedFromCStr("RuntimeError", "a kernel is called with another number of arguments than it has");
    return -1;
  }
  blockDim = gridDim = dim3();
  unsigned* const places[] = {&blockDim.x, &blockDim.y, &blockDim.z, &gridDim.x, &gridDim.y, &gridDim.z};
  const TVMFFIAny* next = args + sizeof...(T);
  for (Extent extent : extents) *places[int(extent)] = unsigned((next++)->v_int64);
#if !defined(__SANITIZE_ADDRESS__)
  if (__start_nncomp_shared != nullptr) memset(__start_nncomp_shared, 0xff, __stop_nncomp_shared - __start_nncomp_shared);
#endif
  using Call = std::pair<void (*)(T...), std::tuple<T...>>;
  Call call(kernel, std::tuple<T...>(argument<T>(args[I])...));
  auto body = [](const void* data) {
    const Call& made = *static_cast<const Call*>(data);
    std::apply(made.first, made.second);
  };
  Guard guard;
  if (block.run_grid(name, body, &call, time_limit)) return 0;
  TVMFFIErrorSetRaisedFromCStr("RuntimeError", block.message);
  return -1;
}

template <typename... T>
inline int launch(const char* name, void (*kernel)(T...), const TVMFFIAny* args, int count,
                  std::initializer_list<Extent> extents) {
  return launch(name, kernel, std::index_sequence_for<T...>(), args, count, extents);
}

}  // namespace nncomp

// Define what TVM's host code calls for `kernel`; the rest are the extents that it passes, in this order.
#define NNCOMP_LAUNCH(kernel, ...)                                                                                 \
  extern "C" __attribute__((visibility("default"))) int __tvm_ffi_##kernel(void*, const TVMFFIAny* args, int count, \
                                                                           TVMFFIAny* result) {                    \
    result->type_index = kTVMFFINone;                                                                              \
    return nncomp::launch(#kernel, kernel, args, count, {__VA_ARGS__});                                            \
  }

// Every run of the library ends with an error once this many seconds have passed.
extern "C" __attribute__((visibility("default"))) int __tvm_ffi_nncomp_time_limit(void*, const TVMFFIAny* args, int,
                                                                                  TVMFFIAny* result) {
  result->type_index = kTVMFFINone;
  nncomp::time_limit = nncomp::seconds() + args[0].v_float64;
  return 0;
}
