// What only the emulated GPU can do.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "device/cuda/gpu.h"

namespace colossus::gpu {

// Runs on the processor when the stream comes to it: the libraries that the emulated GPU lacks.
void enqueue(Stream stream, std::function<void()> work);

// The calls of gpu.h by name since they were last forgotten, each as often as it was made: "allocate",
// "launch_kernel", "captured_kernel", "launch_graph", "instantiate", "synchronize", "copy_to_device", ...
std::multiset<std::string> emulated_calls();
void forget_emulated_calls();

}  // namespace colossus::gpu
