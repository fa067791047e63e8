// Go from one stack to another: what a function may not lose is pushed on the one and popped from the other.
#pragma once

#include <stdint.h>
#include <string.h>

// Leave the stack pointer in `*from`, and go on where `to` was left.
extern "C" void nncomp_switch(void** from, void* to) __attribute__((visibility("hidden")));

#if defined(__x86_64__)
asm(R"(
.text
.hidden nncomp_switch
.globl nncomp_switch
.type nncomp_switch, @function
nncomp_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size nncomp_switch, .-nncomp_switch
)");
namespace nncomp {
constexpr unsigned kReturn = 6, kWords = 8;  // of a new stack: registers, where to go, and nobody to return to
}
#elif defined(__aarch64__)
asm(R"(
.text
.hidden nncomp_switch
.globl nncomp_switch
.type nncomp_switch, %function
nncomp_switch:
    stp x19, x20, [sp, #-160]!
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    ldp x19, x20, [sp], #160
    ret
.size nncomp_switch, .-nncomp_switch
)");
namespace nncomp {
constexpr unsigned kReturn = 11, kWords = 20;
}
#else
#error "there is no switch of stacks for this kind of CPU"
#endif

namespace nncomp {

// Return the stack pointer of a new stack that ends at `top`: a switch to it calls `function`, which never returns.
inline void* prepared_stack(void* top, void (*function)()) {
  auto words = reinterpret_cast<uintptr_t*>(reinterpret_cast<uintptr_t>(top) & ~uintptr_t(15)) - kWords;
  memset(words, 0, kWords * sizeof(uintptr_t));
  words[kReturn] = reinterpret_cast<uintptr_t>(function);
  return words;
}

}  // namespace nncomp
