// GPUs of this process: their streams are queues that run when somebody waits for one, in any order that their events
// allow, so that a missing dependency shows. Whoever waits runs the work of all.
#include "device/cuda/gpu.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "device/cuda/emulated/emulated_gpu.h"
#include "device/cuda/emulated/language.h"

namespace colossus::gpu {

struct EventHandle {
  int64_t recorded = 0;  // records so far, as they were called
  int64_t past = 0;      // records that streams have come past
};

struct Item {
  std::function<void()> work;  // may be empty
  std::function<Poll()> begin = nullptr;
  Poll poll = nullptr;  // of what has begun
  std::shared_ptr<EventHandle> records = nullptr, waits = nullptr;
  int64_t count = 0;  // of the event's records
};
using Queue = std::deque<Item>;

struct GraphHandle {
  std::vector<Queue> streams;
  std::set<EventHandle*> events;
};

struct StreamHandle {
  Queue items;
  GraphHandle* capture = nullptr;
  size_t place = 0;  // in capture->streams
};

namespace {

constexpr int kNumGpus = 16;
constexpr std::chrono::seconds kLongestWait{120};  // for other threads

std::mutex machine;
std::condition_variable changed;  // there is more work, or less
// Of the following and of all handles: touched under `machine`.
std::mt19937_64 order(1);
std::set<StreamHandle*> streams;
std::map<Event, std::shared_ptr<EventHandle>> events;
std::vector<std::shared_ptr<std::vector<Queue>>> playing;  // graphs under way
std::multiset<std::string> recorded_calls;

using Lock = std::unique_lock<std::mutex>;

void count(const char* call) { recorded_calls.insert(call); }

// `begins`: set when work began that others may have waited for.
bool can_run(Item& item, bool& begins) {
  if (item.waits && item.waits->past < item.count) return false;
  if (!item.begin) return true;
  if (!item.poll) {
    item.poll = item.begin();
    begins = true;
  }
  return item.poll();
}

void run(const Item& item) {
  if (item.work) item.work();
  if (item.records) item.records->past = std::max(item.records->past, item.count);
}

bool is_over(const std::vector<Queue>& graph) {
  return std::ranges::all_of(graph, [](const Queue& queue) { return queue.empty(); });
}

// The queues whose next item may run.
std::vector<Queue*> find_ready() {
  std::vector<Queue*> ready;
  for (bool begins = true; begins && ready.empty();) {
    begins = false;
    std::erase_if(playing, [](const auto& graph) { return is_over(*graph); });
    std::vector<Queue*> queues;
    for (StreamHandle* stream : streams) queues.push_back(&stream->items);
    for (const auto& graph : playing)
      for (Queue& queue : *graph) queues.push_back(&queue);
    for (Queue* queue : queues)
      if (!queue->empty() && can_run(queue->front(), begins)) ready.push_back(queue);
  }
  return ready;
}

// One item of one queue that may go on; false when none can.
bool run_one() {
  const std::vector<Queue*> ready = find_ready();
  if (ready.empty()) return false;
  Queue& queue = *ready[order() % ready.size()];
  const Item item = std::move(queue.front());
  queue.pop_front();
  run(item);
  changed.notify_all();
  return true;
}

// Until `done`; other threads get their turn between two items.
template <class Done>
void run_until(Lock& lock, const char* otherwise, Done done) {
  while (!done()) {
    if (run_one()) {
      lock.unlock();
      lock.lock();
      continue;
    }
    CHECK(others_may_help() && changed.wait_for(lock, kLongestWait) == std::cv_status::no_timeout, otherwise);
  }
}

void add(Stream stream, Item item) {
  CHECK(stream && streams.contains(stream));
  if (stream->capture)
    stream->capture->streams[stream->place].push_back(std::move(item));
  else
    stream->items.push_back(std::move(item));
  changed.notify_all();
}

void add_work(const char* call, Stream stream, std::function<void()> work) {
  const Lock lock(machine);
  count(call);
  add(stream, {.work = std::move(work)});
}

// The graph's streams with events that start from nothing.
std::vector<Queue> copy_of(const GraphHandle& graph) {
  std::vector<Queue> copy = graph.streams;
  std::map<EventHandle*, std::shared_ptr<EventHandle>> fresh;
  const auto renew = [&](std::shared_ptr<EventHandle>& event) {
    if (!event) return;
    auto& made = fresh[event.get()];
    if (!made) made = std::make_shared<EventHandle>();
    event = made;
  };
  for (Queue& queue : copy)
    for (Item& item : queue) {
      renew(item.records);
      renew(item.waits);
    }
  return copy;
}

Poll begin_graph(const GraphHandle& graph) {
  playing.push_back(std::make_shared<std::vector<Queue>>(copy_of(graph)));
  return [queues = playing.back()] { return is_over(*queues); };
}

}  // namespace

Lock lock_machine() { return Lock(machine); }
void notify_machine() { changed.notify_all(); }

std::multiset<std::string> emulated_calls() {
  const Lock lock(machine);
  return recorded_calls;
}
void forget_emulated_calls() {
  const Lock lock(machine);
  recorded_calls.clear();
}

Result<int> num_gpus() { return kNumGpus; }

Result<Properties> open(int index) {
  if (index < 0 || index >= kNumGpus) return not_found("the emulated machine has no such GPU");
  return Properties{
      .name = "emulated GPU", .major = 9, .minor = 0, .num_multiprocessors = 4, .memory_bytes = int64_t{1} << 32};
}

Result<std::byte*> allocate(int64_t num_bytes) {
  const Lock lock(machine);
  count("allocate");
  // Not a byte more: the address sanitizer sees who reads behind the end.
  const size_t size = static_cast<size_t>(std::max<int64_t>(num_bytes, 1));
  void* memory = nullptr;
  if (posix_memalign(&memory, 256, size) != 0) return exhausted("the emulated GPU is out of memory");
  std::memset(memory, 0xFF, size);  // what is read before it is written is a NaN
  return static_cast<std::byte*>(memory);
}
// As the driver does, when nothing that was given to a stream before can need it.
void release(std::byte* device) {
  const Lock lock(machine);
  while (run_one()) {
  }
  std::free(device);
}
Result<std::byte*> allocate_pinned(int64_t num_bytes) { return allocate(num_bytes); }
void release_pinned(std::byte* host) { release(host); }

Result<Stream> make_stream() {
  const Lock lock(machine);
  auto* stream = new StreamHandle;
  streams.insert(stream);
  return stream;
}
void destroy(Stream stream) {
  const Lock lock(machine);
  streams.erase(stream);
  delete stream;
}
Result<Event> make_event(bool) {
  const Lock lock(machine);
  auto event = std::make_shared<EventHandle>();
  events[event.get()] = event;
  return event.get();
}
void destroy(Event event) {
  const Lock lock(machine);
  events.erase(event);
}

void copy_to_device(Stream stream, std::byte* device, const std::byte* pinned, int64_t num_bytes) {
  add_work("copy_to_device", stream, [=] { std::memcpy(device, pinned, static_cast<size_t>(num_bytes)); });
}
void copy_to_host(Stream stream, std::byte* pinned, const std::byte* device, int64_t num_bytes) {
  add_work("copy_to_host", stream, [=] { std::memcpy(pinned, device, static_cast<size_t>(num_bytes)); });
}
void copy_on_device(Stream stream, std::byte* to, const std::byte* from, int64_t num_bytes) {
  add_work("copy_on_device", stream, [=] { std::memmove(to, from, static_cast<size_t>(num_bytes)); });
}
void copy_rows_on_device(Stream stream, std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step,
                         int64_t row_bytes, int64_t num_rows) {
  CHECK(num_rows <= 1 || (to_step >= row_bytes && from_step >= row_bytes), "rows overlap");
  add_work("copy_rows_on_device", stream, [=] {
    for (int64_t row = 0; row < num_rows; ++row)
      std::memcpy(to + row * to_step, from + row * from_step, static_cast<size_t>(row_bytes));
  });
}
void set_zero(Stream stream, std::byte* device, int64_t num_bytes) {
  add_work("set_zero", stream, [=] { std::memset(device, 0, static_cast<size_t>(num_bytes)); });
}

void record(Stream stream, Event event) {
  const Lock lock(machine);
  if (stream->capture) stream->capture->events.insert(event);
  add(stream, {.work = nullptr, .records = events.at(event), .count = ++event->recorded});
}

void wait(Stream stream, Event event) {
  const Lock lock(machine);
  if (event->recorded == 0) return;
  // A stream joins a capture by waiting for what was recorded in it.
  if (!stream->capture) {
    for (StreamHandle* other : streams) {
      if (!other->capture || !other->capture->events.contains(event)) continue;
      stream->capture = other->capture;
      stream->place = other->capture->streams.size();
      other->capture->streams.emplace_back();
      break;
    }
  }
  add(stream, {.work = nullptr, .waits = events.at(event), .count = event->recorded});
}

Status synchronize(Stream stream) {
  Lock lock(machine);
  count("synchronize");
  CHECK(!stream->capture, "a stream that is captured cannot be waited for");
  run_until(lock, "streams wait for each other", [&] { return stream->items.empty(); });
  return ok_status();
}

Status synchronize(Event event) {
  Lock lock(machine);
  count("synchronize");
  run_until(lock, "an event waits for what never comes", [&] { return event->past >= event->recorded; });
  return ok_status();
}

// Does some of the work, as a GPU has by the time that one asks again.
Result<bool> is_past(Event event) {
  Lock lock(machine);
  if (event->past < event->recorded && !run_one()) changed.wait_for(lock, std::chrono::milliseconds(1));
  return event->past >= event->recorded;
}

double elapsed_seconds(Event, Event) { return 1e-6; }

void begin_capture(Stream stream) {
  const Lock lock(machine);
  CHECK(!stream->capture);
  stream->capture = new GraphHandle;
  stream->capture->streams.emplace_back();
  stream->place = 0;
}

Result<Graph> end_capture(Stream stream) {
  const Lock lock(machine);
  GraphHandle* graph = stream->capture;
  CHECK(graph);
  for (StreamHandle* other : streams)
    if (other->capture == graph) other->capture = nullptr;
  for (const Queue& queue : graph->streams)
    for (const Item& item : queue)
      for (const EventHandle* event : {item.records.get(), item.waits.get()})
        if (event)
          CHECK(graph->events.contains(const_cast<EventHandle*>(event)),
                "captured work waits for work outside the graph");
  // What a stream that joined does last, the first one must wait for: else the capture cannot be ended.
  for (size_t i = 1; i < graph->streams.size(); ++i) {
    const Queue& queue = graph->streams[i];
    CHECK(queue.empty() || queue.back().records || queue.back().waits,
          "a stream that joined a capture has not come back");
  }
  count("instantiate");
  return graph;
}

void launch(Stream stream, Graph graph) {
  const Lock lock(machine);
  count("launch_graph");
  CHECK(!stream->capture);
  add(stream, {.work = nullptr, .begin = [graph] { return begin_graph(*graph); }});
}
void destroy(Graph graph) { delete graph; }

Status last_error() { return ok_status(); }

void enqueue(Stream stream, std::function<void()> work) {
  const Lock lock(machine);
  add(stream, {.work = std::move(work)});
}
void enqueue(Stream stream, std::function<Poll()> begin) {
  const Lock lock(machine);
  add(stream, {.work = nullptr, .begin = std::move(begin)});
}

void enqueue_kernel(const Launch& where, std::function<void()> body) {
  const Lock lock(machine);
  count(where.stream->capture ? "captured_kernel" : "launch_kernel");
  const Coordinates grid{where.grid.x, where.grid.y, where.grid.z}, block{where.block.x, where.block.y, where.block.z};
  add(where.stream, {.work = [grid, block, bytes = where.shared_bytes, body = std::move(body)] {
        run_grid(grid, block, bytes, order(), body);
      }});
}

}  // namespace colossus::gpu
