// What the device asks of a GPU's driver, in the driver's own terms: memory, streams, events, graphs. Two libraries
// have these functions: native/ (the CUDA runtime) and emulated/ (a machine of this process for tests). A program links
// one.
//
// Work that a stream is given runs later, in order; streams run side by side. Errors of work under way are found by
// synchronize() of any stream, and stay.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace colossus::gpu {

// Handles of the driver; null is none.
using Stream = struct StreamHandle*;
using Event = struct EventHandle*;
using Graph = struct GraphHandle*;

struct Properties {
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // compute capability
  int num_multiprocessors = 0;
  int64_t memory_bytes = 0;
};

// How many GPUs this process may use; or why none can be, and what would help.
Result<int> num_gpus();
// Makes GPU `index` the one that all following calls of this process talk to.
Result<Properties> open(int index);

// On the device, a multiple of 256 bytes apart; contents are undefined. 0 bytes have an address, too.
Result<std::byte*> allocate(int64_t num_bytes);
void release(std::byte* device);
// On the host, where copies need no staging.
Result<std::byte*> allocate_pinned(int64_t num_bytes);
void release_pinned(std::byte* host);

Result<Stream> make_stream();
void destroy(Stream stream);
// `timed`: elapsed_seconds() may be asked about it.
Result<Event> make_event(bool timed = false);
void destroy(Event event);

// Host memory must be pinned and stay as it is until the stream has come past the copy.
void copy_to_device(Stream stream, std::byte* device, const std::byte* pinned, int64_t num_bytes);
void copy_to_host(Stream stream, std::byte* pinned, const std::byte* device, int64_t num_bytes);
void copy_on_device(Stream stream, std::byte* to, const std::byte* from, int64_t num_bytes);
// Rows of row_bytes that lie a step apart in each place; they do not overlap.
void copy_rows_on_device(Stream stream, std::byte* to, int64_t to_step, const std::byte* from, int64_t from_step,
                         int64_t row_bytes, int64_t num_rows);
void set_zero(Stream stream, std::byte* device, int64_t num_bytes);

void record(Stream stream, Event event);
void wait(Stream stream, Event event);  // what follows in the stream starts behind the event's last record
Status synchronize(Stream stream);
Status synchronize(Event event);
// Whether streams have come past the event's last record; does not wait.
Result<bool> is_past(Event event);
double elapsed_seconds(Event from, Event to);  // of two timed events that are past

// From here on work given to `stream`, and to streams that wait for events recorded there, is not run but written down.
void begin_capture(Stream stream);
Result<Graph> end_capture(Stream stream);
void launch(Stream stream, Graph graph);
void destroy(Graph graph);

// The first error of a call that returns none, or of a kernel that could not start.
Status last_error();

}  // namespace colossus::gpu
