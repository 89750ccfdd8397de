#include "emulator.h"

#include <deque>
#include <map>
#include <memory>
#include <numeric>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "fiber.h"

namespace emulator {

Place place;

namespace {

constexpr int kLanes = 32;
constexpr size_t kAlignment = 16;
constexpr size_t kWithoutAsking = 48 << 10;  // bytes of shared memory
constexpr long kPatience = 1000;             // times that every fiber may look in vain

// Threads that meet: a warp or a block.
struct Meeting {
  int size = 0, waiting = 0, gone = 0;
  Operation operation{};
  int detail = 0;
};

struct Fiber {
  Place place;
  void* stack_pointer;
  uint64_t value, result;
  int block, warp;
  uint32_t priority;
};

struct Block {
  std::unique_ptr<char, void (*)(void*)> shared{nullptr, std::free};
  Meeting threads;
  std::vector<Meeting> warps;
};

struct Launch {
  std::vector<Fiber> fibers;
  std::vector<Block> blocks;
  std::priority_queue<std::pair<uint32_t, int>> ready;  // of those that can go on, the first one goes on
  const std::function<void()>* thread;
  int threads_of_block;
  std::string error;
  long in_vain = 0;
};

Launch* launch = nullptr;
int running;
void* scheduler_stack;
const void* scheduler_bottom;
size_t scheduler_bytes;
std::mt19937 random_numbers;
enum class Schedule { kRandom, kThreads, kWarps } schedule;
struct Access {
  int64_t block, thread, address;
};
std::vector<Access> accesses;
bool records_accesses = false;
std::string message;
std::map<const void*, int> most_shared;
int limit_of_shared = 227 << 10;

// One stack for each fiber, used again by later launches.
std::deque<Stack>& stacks() {
  static std::deque<Stack> all;
  return all;
}

// Who goes on is drawn each time, or some threads or warps are ahead of all others from one barrier of their block to
// the next: what a missing barrier should have waited for then comes last of all.
void draw_priorities(int first, int count) {
  uint32_t priority = 0;
  for (int i = 0; i < count; ++i) {
    if (i % kLanes == 0 || schedule == Schedule::kThreads) priority = random_numbers() | 1;
    launch->fibers[first + i].priority = priority;
  }
}

void make_ready(int fiber) {
  const uint32_t drawn = random_numbers();
  launch->ready.emplace(schedule == Schedule::kRandom ? drawn : launch->fibers[fiber].priority, fiber);
}

void to_scheduler() {
  leave(static_cast<const char*>(scheduler_bottom), scheduler_bytes);
  emulator_switch(&launch->fibers[running].stack_pointer, scheduler_stack);
  arrive(nullptr, nullptr);
}

void to_fiber(int next) {
  running = next;
  place = launch->fibers[next].place;
  leave(stacks()[next].bottom(), Stack::kBytes);
  emulator_switch(&scheduler_stack, launch->fibers[next].stack_pointer);
  arrive(nullptr, nullptr);
}

bool is_of_block(Operation operation) {
  return operation == Operation::kSyncThreads || operation == Operation::kCountThreads;
}

Meeting& meeting_of(const Fiber& fiber, Operation operation) {
  Block& block = launch->blocks[fiber.block];
  return is_of_block(operation) ? block.threads : block.warps[fiber.warp];
}

void fail(const std::string& what) {
  const Fiber& fiber = launch->fibers[running];
  if (launch->error.empty()) {
    launch->error = "block " + std::to_string(fiber.place.block.x) + ", thread " +
                    std::to_string(fiber.place.thread.x) + ": " + what;
  }
  launch->ready = {};
}

void entry() {
  arrive(&scheduler_bottom, &scheduler_bytes);
  (*launch->thread)();
  const Fiber& fiber = launch->fibers[running];
  for (Meeting* meeting : {&launch->blocks[fiber.block].threads, &launch->blocks[fiber.block].warps[fiber.warp]}) {
    ++meeting->gone;
    if (meeting->waiting > 0) fail("ends while others wait for it");
  }
  launch->in_vain = 0;
  to_scheduler();
}

void multiply(Fiber* fibers, bool half) {
  LaneOfMatrices* lanes[kLanes];
  for (int i = 0; i < kLanes; ++i) lanes[i] = reinterpret_cast<LaneOfMatrices*>(fibers[i].value);
  multiply_matrices(lanes, half);
}

// What the threads first .. first + size of a meeting get, all of them being there.
void settle(const Meeting& meeting, int first) {
  Fiber* fibers = &launch->fibers[first];
  uint64_t any = 0, all = 1, sum = 0;
  for (int i = 0; i < meeting.size; ++i) {
    any |= fibers[i].value;
    all &= fibers[i].value;
    sum += fibers[i].value;
  }
  if (is_of_block(meeting.operation)) draw_priorities(first, meeting.size);
  if (meeting.operation == Operation::kMatrices) multiply(fibers, meeting.detail);
  for (int i = 0; i < meeting.size; ++i) {
    const Operation of = meeting.operation;
    fibers[i].result = of == Operation::kShuffle        ? fibers[i ^ meeting.detail].value
                       : of == Operation::kCountThreads ? sum
                       : of == Operation::kAll          ? all
                                                        : any;
    make_ready(first + i);
  }
}

void prepare_launch(const cudaLaunchConfig_t& config) {
  const int threads = config.blockDim.x, blocks = config.gridDim.x;
  launch->threads_of_block = threads;
  launch->blocks.resize(blocks);
  launch->fibers.resize(size_t(threads) * blocks);
  while (stacks().size() < launch->fibers.size()) stacks().emplace_back();
  for (int b = 0; b < blocks; ++b) {
    Block& block = launch->blocks[b];
    const size_t bytes = (config.dynamicSmemBytes + kAlignment - 1) / kAlignment * kAlignment;
    block.shared.reset(static_cast<char*>(std::aligned_alloc(kAlignment, bytes + kAlignment)));
    std::memset(block.shared.get(), 0xff, bytes);  // NaN, whatever the type
    block.threads.size = threads;
    block.warps.resize(threads / kLanes);
    for (Meeting& warp : block.warps) warp.size = kLanes;
    for (int i = 0; i < threads; ++i) {
      const int index = b * threads + i;
      launch->fibers[index] = {
          {dim3(i), dim3(b), config.blockDim, config.gridDim}, prepare(stacks()[index], entry), 0, 0, b, i / kLanes, 0};
    }
    draw_priorities(b * threads, threads);
  }
}

// Blocks of a cooperative launch run all at once, those of any other so or one after the other: they must not need
// more.
void run_blocks(bool all_at_once) {
  std::vector<int> order(launch->blocks.size());
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), random_numbers);
  for (const int block : order) {
    for (int i = 0; i < launch->threads_of_block; ++i) make_ready(block * launch->threads_of_block + i);
    if (all_at_once && block != order.back()) continue;
    while (!launch->ready.empty()) {
      const int next = launch->ready.top().second;
      launch->ready.pop();
      to_fiber(next);
    }
    if (!launch->error.empty()) return;
  }
}

std::string why_not(const void* kernel, const cudaLaunchConfig_t& config) {
  if (config.gridDim.x < 1 || config.blockDim.x % kLanes != 0 || config.blockDim.x > 1024) return "invalid shape";
  const auto asked = most_shared.find(kernel);
  const size_t most = asked == most_shared.end() ? kWithoutAsking : std::max<size_t>(asked->second, kWithoutAsking);
  if (config.dynamicSmemBytes > most) return "more shared memory than the kernel was given leave for";
  if (config.numAttrs > 0 && !config.attrs->val.cooperative) return "an attribute that asks for nothing";
  return "";
}

}  // namespace

uint64_t meet(Operation operation, uint64_t value, int detail) {
  Fiber& fiber = launch->fibers[running];
  Meeting& meeting = meeting_of(fiber, operation);
  fiber.value = value;
  if (meeting.waiting == 0) {
    meeting.operation = operation;
    meeting.detail = detail;
  }
  if (meeting.gone > 0) {
    fail("waits for threads that have ended");
  } else if (meeting.operation != operation || meeting.detail != detail) {
    fail("meets others at another operation");
  } else if (++meeting.waiting == meeting.size) {
    meeting.waiting = 0;
    settle(meeting, fiber.block * launch->threads_of_block + (is_of_block(operation) ? 0 : fiber.warp * kLanes));
    launch->in_vain = 0;
  }
  to_scheduler();
  return launch->fibers[running].result;
}

void yield() {
  launch->ready.emplace(random_numbers() >> 20, running);  // behind others, who may bring what it waits for
  if (++launch->in_vain > kPatience * static_cast<long>(launch->fibers.size())) fail("waits for ever");
  to_scheduler();
}

void note_access(const void* at) {
  if (records_accesses) accesses.push_back({place.block.x, place.thread.x, reinterpret_cast<int64_t>(at)});
}

char* shared_memory() { return launch->blocks[launch->fibers[running].block].shared.get(); }

cudaError_t run(const void* kernel, const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
  message = why_not(kernel, config);
  if (!message.empty()) return cudaErrorInvalidValue;
  Launch all{};
  all.thread = &thread;
  launch = &all;
  prepare_launch(config);
  const bool cooperative = config.numAttrs > 0 && config.attrs->val.cooperative;
  run_blocks(cooperative || random_numbers() % 2 == 0);
  for (const Block& block : all.blocks) {
    if (all.error.empty() && block.threads.gone != block.threads.size)
      all.error = "threads wait for each other for ever";
  }
  launch = nullptr;
  message = all.error;
  return all.error.empty() ? cudaSuccess : cudaErrorLaunchFailure;
}

}  // namespace emulator

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute, int value) {
  if (value > emulator::limit_of_shared) return cudaErrorInvalidValue;
  emulator::most_shared[kernel] = value;
  return cudaSuccess;
}

namespace gmd::cuda {

float widen_half(uint16_t bits) {
  const int sign = bits >> 15 ? -1 : 1, exponent = bits >> 10 & 31, fraction = bits & 1023;
  if (exponent == 31) return fraction ? std::nanf("") : sign * INFINITY;
  return exponent == 0 ? sign * std::ldexp(float(fraction), -24)
                       : sign * std::ldexp(float(1024 + fraction), exponent - 25);
}

uint16_t narrow_to_half(float value) {
  const uint16_t sign = std::signbit(value) ? 0x8000 : 0;
  if (std::isnan(value)) return sign | 0x7e00;
  const float magnitude = std::fabs(value);
  if (magnitude == 0) return sign;
  if (magnitude >= 65520.0f) return sign | 0x7c00;
  int exponent;
  std::frexp(magnitude, &exponent);
  const int unit = std::max(exponent - 11, -24);  // of the last place
  const auto count = static_cast<uint16_t>(std::nearbyint(std::ldexp(magnitude, -unit)));
  return sign | (count + ((unit + 24) << 10));
}

uint32_t narrow_to_bfloat16s(float low, float high) {
  const auto narrow = [](float value) -> uint32_t {
    const uint32_t bits = __float_as_uint(value);
    return std::isnan(value) ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  };
  return narrow(high) << 16 | narrow(low);
}

float truncate(double value) {
  const float nearest = static_cast<float>(value);
  return std::fabs(static_cast<double>(nearest)) > std::fabs(value) ? std::nextafterf(nearest, 0.0f) : nearest;
}

}  // namespace gmd::cuda

extern "C" void emulator_seed(uint32_t seed) {
  emulator::random_numbers.seed(seed);
  emulator::schedule = static_cast<emulator::Schedule>(seed % 3);
}
// From now on, or no longer; those there were are forgotten.
extern "C" void emulator_record(int on) {
  emulator::records_accesses = on;
  emulator::accesses.clear();
}
// [.., 3]: block, thread, address, in the order of each thread. How many; `to` may be null.
extern "C" int64_t emulator_accesses(int64_t* to) {
  for (const emulator::Access& access : emulator::accesses) {
    if (to != nullptr) to = std::copy_n(&access.block, 3, to);
  }
  return static_cast<int64_t>(emulator::accesses.size());
}
extern "C" const char* emulator_message() { return emulator::message.c_str(); }
