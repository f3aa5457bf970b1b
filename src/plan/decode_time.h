// How fast the GPUs of one machine decode: the real decoding program (model/model.h), its products cut evenly over the
// GPUs, each priced by the roofline of kernel_times.h, and two sums over the GPUs in a layer. Launches are not counted:
// graphs of kernels hide them. Nothing is known here of prompts, scheduling or speculation.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "device/sim/hardware.h"
#include "device/sim/kernel_times.h"
#include "model/model_config.h"

namespace colossus {

struct DecodeQuestion {
  ModelConfig model;
  GpuSpec gpu;
  KernelRates rates;
  NetworkSpec network;
  int64_t gpus = 8;         // that share a copy of the model
  int64_t context = 8192;   // tokens that each sequence holds, in the mean
  double weight_bytes = 2;  // of a parameter, in memory; products are in bf16
};

struct DecodeTime {
  int64_t batch = 0;                    // sequences
  double seconds = 0;                   // of one token of each
  double memory_bound = 0;              // share of that in which memory is what is waited for
  double communication = 0;             // share of that for sums over the GPUs
  double weights_gb = 0, cache_gb = 0;  // of one GPU
  double tokens_per_second_per_gpu = 0;
};

Result<DecodeTime> time_decode(const DecodeQuestion& question, int64_t batch);

// The most sequences that fit beside the weights; 0: the weights alone do not.
Result<int64_t> largest_decode_batch(const DecodeQuestion& question);

}  // namespace colossus
