// What `colossus simulate` answers, for people and as a line of JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "plan/decode_time.h"
#include "plan/run_history.h"
#include "plan/search.h"
#include "plan/sensitivity.h"

namespace colossus {

// Decoding on the GPUs of one pool; 0 sequences: the weights do not fit.
struct DecodeAnswer {
  std::string pool, gpu;
  int64_t gpus = 0, context = 0;
  double weight_bytes = 2;
  int64_t largest_batch = 0;
  std::vector<DecodeTime> times;
};

struct SimulateAnswer {
  PlanQuestion question;
  std::string model_file;
  std::vector<std::string> notes;
  JudgedLayout judged;
  RunPlan plan;
  std::optional<RunHistory> history;
  std::optional<Sensitivity> sensitivity;
  std::vector<DecodeAnswer> decode;
};

void print_answer(const SimulateAnswer& answer);
std::string json_line(const SimulateAnswer& answer);

// Which figures of these tables are assumed: "failures.", "power."; all of them, by name.
void print_assumptions(const ClusterConfig& cluster, const std::vector<std::string>& tables);

}  // namespace colossus
