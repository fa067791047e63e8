// The threads of a block, as fibers of one thread of the CPU: each runs until it waits for others, at a barrier or at
// an exchange between the lanes of a warp. What fails on a GPU by luck only fails here by name: a barrier that some
// threads never reach, an exchange with lanes that do not take part, an address that is nobody's.
//
// The order of the threads turns from block to block and at each barrier, so that a missing barrier shows: what reads a
// value that another thread has yet to write finds what lay there before, at first 0xff in every byte.
#pragma once

#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <memory>
#include <utility>
#include <vector>

#include "switch.h"
#include "vectors.h"

struct dim3 {
  unsigned x = 1, y = 1, z = 1;
};

static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;
static const int warpSize = 32;

#if defined(__SANITIZE_ADDRESS__)
#define __shared__ static
#else
extern "C" char __start_nncomp_shared[] __attribute__((weak, visibility("hidden")));
extern "C" char __stop_nncomp_shared[] __attribute__((weak, visibility("hidden")));
#define __shared__ static __attribute__((section("nncomp_shared")))
#endif

namespace nncomp {

constexpr unsigned kLanes = 32;
constexpr size_t kWidest = 16;  // bytes that a shuffle moves at the most

enum class State : uint8_t { kReady, kBarrier, kExchange, kConverging, kDone };

class Fiber {
 public:
  // `number` spreads the stacks over the sets of a cache.
  explicit Fiber(unsigned number) : stack(mmap(nullptr, kSize, PROT_READ | PROT_WRITE, kKind, -1, 0)) {
    top = static_cast<char*>(stack) + kSize - number % 128 * 320;
  }
  ~Fiber() {
    if (exists()) munmap(stack, kSize);
  }
  bool exists() const { return stack != MAP_FAILED; }

  void begin(void (*function)()) { place = prepared_stack(top, function); }

  void* place;  // its stack pointer, while it does not run

 private:
  static constexpr size_t kSize = 256 * 1024;
  static constexpr int kKind = MAP_PRIVATE | MAP_ANONYMOUS;
  void* stack;
  void* top;
};

struct Thread {
  uint3 index;
  unsigned lane;
  State state;
  int line;       // of the source, where it waits
  unsigned mask;  // lanes that it waits for, then those that were there
  Fiber* fiber;
  unsigned char given[kWidest];  // what it hands to the lanes of its warp
  unsigned char seen[kWidest];   // what it gave when the exchange took place
};

inline double seconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

class Block {
 public:
  using Body = void (*)(const void*);

  char message[400];

  // Run `code` for all blocks of the grid, until `end`, a time of `seconds`; return whether all went well, else see
  // `message`.
  bool run_grid(const char* kernel, Body code, const void* values, double end);

  void barrier(int line) { wait(State::kBarrier, line); }

  unsigned converged(int line) {
    wait(State::kConverging, line);
    return current->mask;
  }

  template <typename T>
  void exchange(unsigned mask, T value, int line) {
    static_assert(sizeof(T) <= kWidest, "a shuffle moves up to 16 bytes");
    memcpy(current->given, &value, sizeof(T));
    current->mask = mask;
    wait(State::kExchange, line);
  }

  // What a lane gave in the exchange; what took no part gave nothing: all ones.
  template <typename T>
  T seen(unsigned lane) const {
    T value;
    memset(&value, 0xff, sizeof(T));
    if (lane < kLanes && took_part(lane)) memcpy(&value, (current - current->lane + lane)->seen, sizeof(T));
    return value;
  }

  unsigned lane() const { return current->lane; }

  bool took_part(unsigned lane) const { return current->mask >> lane & 1; }

  // End the run, from inside a thread.
  [[noreturn]] void fail(const char* what) {
    complain("%s in thread (%u, %u, %u) of block (%u, %u, %u)", what, threadIdx.x, threadIdx.y, threadIdx.z, blockIdx.x,
             blockIdx.y, blockIdx.z);
    _longjmp(failed, 1);
  }

 private:
  static void enter();
  bool run_block();
  bool prepare(const char* kernel, Body code, const void* values, double end);
  Thread* following();
  void begin(Thread* thread);
  void become(Thread* thread);
  void wait(State state, int line);
  void settle(Thread* warp, unsigned lanes);
  bool all_at_a_barrier();

  void release(Thread& thread) {
    thread.state = State::kReady;
    ready++;
  }

  template <typename... A>
  bool complain(const char* format, A... values) {
    int used = snprintf(message, sizeof(message), "kernel %s: ", name);
    snprintf(message + used, sizeof(message) - used, format, values...);
    return false;
  }

  const char* name;
  Body body;
  const void* arguments;
  double deadline;
  unsigned ready, done;
  size_t turn;  // of which thread it is, in order
  bool backwards;
  Thread* current;
  void* scheduler;  // its stack pointer
  std::vector<Thread> threads;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle;
  jmp_buf failed;
};

static Block block;

// Every fiber: one thread after the other, each begun when it is its turn.
inline void Block::enter() {
  for (;;) {
    block.body(block.arguments);
    block.done++;
    block.current->state = State::kDone;
    Fiber* mine = std::exchange(block.current->fiber, nullptr);
    Thread* next = block.following();
    if (next != nullptr && next->fiber == nullptr) {
      next->fiber = mine;
      block.become(next);
      continue;
    }
    block.idle.push_back(mine);
    if (next != nullptr) block.become(next);
    nncomp_switch(&mine->place, next == nullptr ? block.scheduler : next->fiber->place);
  }
}

inline void Block::become(Thread* thread) {
  current = thread;
  threadIdx = thread->index;
}

// Give a thread that has none a stack.
inline void Block::begin(Thread* thread) {
  if (thread->fiber != nullptr) return;
  thread->fiber = idle.back();
  idle.pop_back();
  thread->fiber->begin(enter);
}

// Return the next thread that is ready, in order, nullptr where there is none; it is ready no more.
inline Thread* Block::following() {
  if (ready == 0) return nullptr;
  const size_t count = threads.size();
  for (; turn < count; turn++) {
    Thread& thread = threads[backwards ? count - 1 - turn : turn];
    if (thread.state != State::kReady) continue;
    turn++;
    ready--;
    return &thread;
  }
  return nullptr;
}

__attribute__((noinline)) inline void Block::wait(State state, int line) {
  Thread* thread = current;
  thread->state = state;
  thread->line = line;
  Thread* next = following();
  if (next != nullptr) {
    begin(next);
    become(next);
  }
  nncomp_switch(&thread->fiber->place, next == nullptr ? scheduler : next->fiber->place);
}

// Let the lanes of a warp, none of which can go on by itself, have what they wait for.
inline void Block::settle(Thread* warp, unsigned lanes) {
  for (unsigned i = 0; i < lanes; i++) {
    const State state = warp[i].state;
    const int line = warp[i].line;
    const unsigned mask = warp[i].mask;
    if (state != State::kExchange && state != State::kConverging) continue;
    unsigned there = 0;
    for (unsigned j = 0; j < lanes; j++) {
      bool same = warp[j].state == state && warp[j].line == line;
      if (same && (state == State::kConverging || warp[j].mask == mask)) there |= 1u << j;
    }
    const unsigned named = lanes == kLanes ? mask : mask & ((1u << lanes) - 1);  // lanes without a thread take no part
    if (state == State::kExchange && there != named) continue;
    for (unsigned j = 0; j < lanes; j++) {
      if (!(there >> j & 1)) continue;
      warp[j].mask = there;
      memcpy(warp[j].seen, warp[j].given, kWidest);
      release(warp[j]);
    }
  }
}

// Whether all threads, none of which can go on by itself, wait at one barrier; else the message says what is wrong.
inline bool Block::all_at_a_barrier() {
  unsigned there = 0;
  int line = 0;
  for (const Thread& thread : threads) {
    if (thread.state == State::kExchange) {
      return complain("a warp function at line %d waits for lanes that do not call it", thread.line);
    }
    if (thread.state != State::kBarrier) continue;
    if (there && thread.line != line) return complain("threads wait at two barriers, lines %d and %d", line, thread.line);
    line = thread.line;
    there++;
  }
  unsigned all = threads.size();
  if (there == all) return true;
  return complain("%u of %u threads of a block never reach the barrier at line %d", all - there, all, line);
}

inline bool Block::run_block() {
  for (Thread& thread : threads) thread.state = State::kReady;
  ready = threads.size();
  done = 0;
  while (true) {
    turn = 0;
    Thread* first = following();
    begin(first);
    become(first);
    nncomp_switch(&scheduler, first->fiber->place);
    if (done == threads.size()) return true;
    for (size_t at = 0; at < threads.size(); at += kLanes) {
      settle(&threads[at], threads.size() - at < kLanes ? threads.size() - at : kLanes);
    }
    if (ready) continue;
    if (!all_at_a_barrier()) return false;
    for (Thread& thread : threads) thread.state = State::kReady;
    ready = threads.size();
    backwards = !backwards;
  }
}

inline bool Block::prepare(const char* kernel, Body code, const void* values, double end) {
  name = kernel, body = code, arguments = values, deadline = end;
  threads.resize(size_t(blockDim.x) * blockDim.y * blockDim.z);
  Thread* thread = threads.data();
  for (unsigned z = 0; z < blockDim.z; z++) {
    for (unsigned y = 0; y < blockDim.y; y++) {
      for (unsigned x = 0; x < blockDim.x; x++, thread++) {
        thread->index = {x, y, z};
        thread->lane = (thread - threads.data()) % kLanes;
        thread->fiber = nullptr;
      }
    }
  }
  while (fibers.size() < threads.size()) {
    fibers.push_back(std::make_unique<Fiber>(fibers.size()));
    if (!fibers.back()->exists()) return complain("there is no memory for %zu threads", threads.size());
  }
  idle.clear();
  for (auto& fiber : fibers) idle.push_back(fiber.get());
  return true;
}

inline bool Block::run_grid(const char* kernel, Body code, const void* values, double end) {
  if (!prepare(kernel, code, values, end)) return false;
  if (_setjmp(failed) != 0) return false;
  for (unsigned z = 0; z < gridDim.z; z++) {
    for (unsigned y = 0; y < gridDim.y; y++) {
      for (unsigned x = 0; x < gridDim.x; x++) {
        blockIdx = {x, y, z};
        backwards = (x ^ y ^ z) & 1;
        if (!run_block()) return false;
        if (seconds() > deadline) return complain("time is up");
      }
    }
  }
  return true;
}

}  // namespace nncomp

#define __syncthreads() ::nncomp::block.barrier(__LINE__)
