// Stacks that one thread of the operating system switches between. For x86-64 Linux.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

class Stack {
 public:
  static constexpr size_t kBytes = 256 << 10;
  static constexpr int kMapping = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  // not reserved: of thousands of stacks little is touched, and a process that had reserved them all could not fork
  Stack() : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, kMapping, -1, 0)) {
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
  }
  ~Stack() { munmap(memory_, kBytes); }
  Stack(const Stack&) = delete;
  Stack& operator=(const Stack&) = delete;
  char* bottom() const { return static_cast<char*>(memory_); }
  char* top() const { return bottom() + kBytes; }

 private:
  void* memory_;
};

// Pushes what a callee has to preserve, leaves the stack pointer in *from, takes up `to`, and pops the same there.
extern "C" void emulator_switch(void** from, void* to);
asm(R"(
.text
.globl emulator_switch
.hidden emulator_switch
.type emulator_switch, @function
emulator_switch:
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
.size emulator_switch, .-emulator_switch
)");

// A stack pointer from which emulator_switch enters `entry`, which must not return.
inline void* prepare(const Stack& stack, void (*entry)()) {
#ifdef __SANITIZE_ADDRESS__
  __asan_unpoison_memory_region(stack.bottom(), Stack::kBytes);  // calls that never returned left their marks
#endif
  auto** top = reinterpret_cast<void**>(stack.top());
  *--top = nullptr;  // as if called from nowhere: the stack is off by 8 at the entry of a function
  *--top = reinterpret_cast<void*>(entry);
  for (int i = 0; i < 6; ++i) *--top = nullptr;
  return top;
}

// The sanitizer has to know of every change of stacks.
inline void leave([[maybe_unused]] const char* bottom, [[maybe_unused]] size_t bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(nullptr, bottom, bytes);
#endif
}
inline void arrive([[maybe_unused]] const void** bottom, [[maybe_unused]] size_t* bytes) {
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, bottom, bytes);
#endif
}

}  // namespace emulator
