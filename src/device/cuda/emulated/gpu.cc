// A GPU of this process: its streams are queues that run when somebody waits for them, in any order that their events
// allow, so that a missing dependency shows.
#include "device/cuda/gpu.h"

#include <algorithm>
#include <cstring>
#include <deque>
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
  EventHandle* records = nullptr;
  EventHandle* waits = nullptr;
  int64_t count = 0;  // of the event's records
};

// Each stream's items, with events that start from nothing.
struct GraphHandle {
  std::vector<std::deque<Item>> streams;
  std::set<EventHandle*> events;
};

struct StreamHandle {
  std::deque<Item> items;
  GraphHandle* capture = nullptr;
  size_t place = 0;  // in capture->streams
};

namespace {

std::mt19937_64 order(1);
std::set<StreamHandle*> streams;
std::multiset<std::string> recorded_calls;

void count(const char* call) { recorded_calls.insert(call); }

bool can_run(const Item& item) { return !item.waits || item.waits->past >= item.count; }

void run(const Item& item) {
  if (item.work) item.work();
  if (item.records) item.records->past = std::max(item.records->past, item.count);
}

// One item of one queue that may go on; false when none can.
bool run_one(const std::vector<std::deque<Item>*>& queues) {
  std::vector<std::deque<Item>*> ready;
  for (auto* queue : queues)
    if (!queue->empty() && can_run(queue->front())) ready.push_back(queue);
  if (ready.empty()) return false;
  std::deque<Item>& queue = *ready[order() % ready.size()];
  const Item item = std::move(queue.front());
  queue.pop_front();
  run(item);
  return true;
}

std::vector<std::deque<Item>*> all_queues() {
  std::vector<std::deque<Item>*> queues;
  for (StreamHandle* stream : streams) queues.push_back(&stream->items);
  return queues;
}

void add(Stream stream, Item item) {
  CHECK(stream && streams.contains(stream));
  if (stream->capture)
    stream->capture->streams[stream->place].push_back(std::move(item));
  else
    stream->items.push_back(std::move(item));
}

void play(const GraphHandle& graph) {
  std::vector<std::deque<Item>> copy = graph.streams;
  for (EventHandle* event : graph.events) event->past = 0;
  std::vector<std::deque<Item>*> queues;
  for (auto& queue : copy) queues.push_back(&queue);
  while (run_one(queues)) {
  }
  for (const auto& queue : copy) CHECK(queue.empty(), "work of a graph waits for what never comes");
}

}  // namespace

std::multiset<std::string> emulated_calls() { return recorded_calls; }
void forget_emulated_calls() { recorded_calls.clear(); }

Result<int> num_gpus() { return 1; }

Result<Properties> open(int index) {
  if (index != 0) return not_found("the emulated machine has one GPU, number 0");
  return Properties{
      .name = "emulated GPU", .major = 9, .minor = 0, .num_multiprocessors = 4, .memory_bytes = int64_t{1} << 32};
}

Result<std::byte*> allocate(int64_t num_bytes) {
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
  while (run_one(all_queues())) {
  }
  std::free(device);
}
Result<std::byte*> allocate_pinned(int64_t num_bytes) { return allocate(num_bytes); }
void release_pinned(std::byte* host) { release(host); }

Result<Stream> make_stream() {
  auto* stream = new StreamHandle;
  streams.insert(stream);
  return stream;
}
void destroy(Stream stream) {
  streams.erase(stream);
  delete stream;
}
Result<Event> make_event(bool) { return new EventHandle; }
void destroy(Event event) { delete event; }

void copy_to_device(Stream stream, std::byte* device, const std::byte* pinned, int64_t num_bytes) {
  count("copy_to_device");
  add(stream, {.work = [=] { std::memcpy(device, pinned, static_cast<size_t>(num_bytes)); }});
}
void copy_to_host(Stream stream, std::byte* pinned, const std::byte* device, int64_t num_bytes) {
  count("copy_to_host");
  add(stream, {.work = [=] { std::memcpy(pinned, device, static_cast<size_t>(num_bytes)); }});
}
void copy_on_device(Stream stream, std::byte* to, const std::byte* from, int64_t num_bytes) {
  count("copy_on_device");
  add(stream, {.work = [=] { std::memmove(to, from, static_cast<size_t>(num_bytes)); }});
}
void set_zero(Stream stream, std::byte* device, int64_t num_bytes) {
  count("set_zero");
  add(stream, {.work = [=] { std::memset(device, 0, static_cast<size_t>(num_bytes)); }});
}

void record(Stream stream, Event event) {
  if (stream->capture) stream->capture->events.insert(event);
  add(stream, {.records = event, .count = ++event->recorded});
}

void wait(Stream stream, Event event) {
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
  add(stream, {.waits = event, .count = event->recorded});
}

Status synchronize(Stream stream) {
  count("synchronize");
  CHECK(!stream->capture, "a stream that is captured cannot be waited for");
  while (!stream->items.empty()) CHECK(run_one(all_queues()), "streams wait for each other");
  return ok_status();
}

Status synchronize(Event event) {
  count("synchronize");
  while (event->past < event->recorded) CHECK(run_one(all_queues()), "an event waits for what never comes");
  return ok_status();
}

double elapsed_seconds(Event, Event) { return 1e-6; }

void begin_capture(Stream stream) {
  CHECK(!stream->capture);
  stream->capture = new GraphHandle;
  stream->capture->streams.emplace_back();
  stream->place = 0;
}

Result<Graph> end_capture(Stream stream) {
  GraphHandle* graph = stream->capture;
  CHECK(graph);
  for (StreamHandle* other : streams)
    if (other->capture == graph) other->capture = nullptr;
  // The events start from nothing at each launch.
  for (auto& queue : graph->streams)
    for (Item& item : queue)
      for (EventHandle* event : {item.records, item.waits})
        if (event) CHECK(graph->events.contains(event), "captured work waits for work outside the graph");
  count("instantiate");
  return graph;
}

void launch(Stream stream, Graph graph) {
  count("launch_graph");
  CHECK(!stream->capture);
  stream->items.push_back({.work = [graph] { play(*graph); }});
}
void destroy(Graph graph) { delete graph; }

Status last_error() { return ok_status(); }

void enqueue(Stream stream, std::function<void()> work) { add(stream, {.work = std::move(work)}); }

void enqueue_kernel(const Launch& where, std::function<void()> body) {
  count(where.stream->capture ? "captured_kernel" : "launch_kernel");
  const Coordinates grid{where.grid.x, where.grid.y, where.grid.z}, block{where.block.x, where.block.y, where.block.z};
  add(where.stream, {.work = [grid, block, bytes = where.shared_bytes, body = std::move(body)] {
        run_grid(grid, block, bytes, order(), body);
      }});
}

}  // namespace colossus::gpu
