// What only the emulated GPU can do.
#pragma once

#include <functional>
#include <mutex>
#include <set>
#include <string>

#include "device/cuda/gpu.h"

namespace colossus::gpu {

// Runs on the processor when the stream comes to it: the libraries that the emulated GPU lacks.
void enqueue(Stream stream, std::function<void()> work);
// Work that others have a say in: begun when the stream comes to it, then asked again and again until it says that it
// is over. Both under the lock of the machine.
using Poll = std::function<bool()>;
void enqueue(Stream stream, std::function<Poll()> begin);

// Of everything that GPUs of this process do.
std::unique_lock<std::mutex> lock_machine();
// Under the lock: what is polled may be over.
void notify_machine();
// Under the lock: work that waits may wait for another thread (emulated/peers.cc).
bool others_may_help();

// The calls of gpu.h by name since they were last forgotten, each as often as it was made: "allocate",
// "launch_kernel", "captured_kernel", "launch_graph", "instantiate", "synchronize", "copy_to_device", ...
std::multiset<std::string> emulated_calls();
void forget_emulated_calls();

}  // namespace colossus::gpu
