#include <fmt/format.h>

#include <cmath>

#include "cli/plan_question.h"
#include "cli/simulate_report.h"

namespace colossus {
namespace {

std::string text_of(double value) { return std::isfinite(value) ? fmt::format("{:.7g}", value) : "null"; }

// An object or a list that is being written.
class Json {
 public:
  Json& add(const char* key, const std::string& text) {
    std::string quoted;
    for (const char c : text) {
      if (c == '"' || c == '\\') quoted += '\\';
      if (static_cast<unsigned char>(c) >= ' ') quoted += c;
    }
    return raw(key, "\"" + quoted + "\"");
  }
  Json& add(const char* key, double value) { return raw(key, text_of(value)); }
  Json& add(const char* key, int64_t value) { return raw(key, std::to_string(value)); }
  // Mean, and where nine of ten lie.
  Json& add(const char* key, const Spread& spread, double factor = 1) {
    return raw(key, fmt::format("[{}, {}, {}]", text_of(factor * spread.mean), text_of(factor * spread.low),
                                text_of(factor * spread.high)));
  }
  Json& raw(const char* key, const std::string& json) {
    text_ += fmt::format("{}\"{}\": {}", text_.empty() ? "" : ", ", key, json);
    return *this;
  }
  std::string object() const { return "{" + text_ + "}"; }

 private:
  std::string text_;
};

std::string list_of(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ", ") + item;
  return "[" + text + "]";
}

void add_history(const SimulateAnswer& answer, double tokens_per_step, Json& json) {
  const RunHistory& history = *answer.history;
  json.add("runs", answer.plan.num_runs).add("days", history.days).add("unfinished", history.num_unfinished);
  json.add("played_step_seconds", answer.plan.step_seconds);
  json.add("training_gpus", history.data_ranks * answer.plan.gpus_per_data_rank);
  json.add("useful", history.useful).add("redone", history.redone).add("detecting", history.detecting);
  json.add("starting", history.starting).add("waiting", history.waiting).add("stopped", history.stopped);
  json.add("checkpoints", history.checkpoints).add("maintenance", history.maintenance).add("slow", history.slow);
  json.add("missing", history.missing).add("interruptions_per_day", history.interruptions_per_day);
  json.add("tokens", history.steps, tokens_per_step).add("megawatt_hours", history.megawatt_hours);
  json.add("peak_megawatts", peak_megawatts(answer.question.cluster)).add("gpu_hours", history.gpu_hours);
  if (history.usd_rent) json.add("usd_rent", *history.usd_rent);
  if (history.usd_owned) json.add("usd_owned", *history.usd_owned);
  std::vector<std::string> phases;
  for (const GrowthPhase& phase : history.phases) {
    Json item;
    item.add("from_day", phase.from_day).add("gpus", phase.gpus).add("data_ranks", phase.data_ranks);
    item.add("speed", phase.whole_rate).add("even_speed", phase.even_rate).add("useful", phase.useful);
    item.add("tokens", phase.steps, tokens_per_step).add("joined_hours", phase.joined_hours);
    phases.push_back(item.object());
  }
  json.raw("phases", list_of(phases));
}

std::string sensitivity_json(const Sensitivity& sensitivity) {
  const auto end = [](const std::optional<RunAnswer>& answer) -> std::string {
    if (!answer) return "null";
    Json json;
    json.add("step_seconds", answer->step_seconds).add("useful", answer->useful);
    if (answer->usd_per_step) json.add("usd_per_step", *answer->usd_per_step);
    return json.object();
  };
  std::vector<std::string> rows;
  for (const SensitivityRow& row : sensitivity.rows) {
    Json json;
    json.add("figure", row.assumed.path).add("value", row.assumed.value);
    json.add("low", row.assumed.low).add("high", row.assumed.high);
    json.raw("at_low", end(row.at[0])).raw("at_high", end(row.at[1])).add("change", row.change);
    rows.push_back(json.object());
  }
  return list_of(rows);
}

std::string decode_json(const DecodeAnswer& answer, const DecodeTime& time) {
  Json json;
  json.add("gpu", answer.gpu).add("gpus", answer.gpus).add("context", answer.context);
  json.add("weight_bytes", answer.weight_bytes).add("largest_batch", answer.largest_batch).add("batch", time.batch);
  json.add("seconds", time.seconds).add("tokens_per_second_per_gpu", time.tokens_per_second_per_gpu);
  json.add("memory_bound", time.memory_bound).add("communication", time.communication);
  return json.object();
}

}  // namespace

std::string json_line(const SimulateAnswer& answer) {
  const JudgedLayout& judged = answer.judged;
  const double tokens = static_cast<double>(judged.layout.batch) * static_cast<double>(judged.layout.tokens);
  Json json;
  json.add("model", answer.model_file).add("cluster", answer.question.cluster.name).add("gpus", judged.num_gpus);
  json.add("layout", layout_text(judged.layout)).add("step_seconds", judged.time.seconds).add("step_tokens", tokens);
  json.add("tokens_per_second", judged.tokens_per_second).add("mfu", judged.utilization);
  if (!answer.plan.pool_speed.empty()) {
    std::vector<std::string> speeds;
    for (size_t i = 0; i < answer.plan.pool_speed.size(); ++i) {
      Json speed;
      speed.add("pool", answer.question.cluster.pools[i].name).add("gpu", answer.question.cluster.pools[i].gpu.name);
      speeds.push_back(speed.add("speed", answer.plan.pool_speed[i]).object());
    }
    json.raw("pools", list_of(speeds));
  }
  if (answer.history) add_history(answer, tokens, json);
  if (answer.sensitivity) json.raw("sensitivity", sensitivity_json(*answer.sensitivity));
  if (!answer.decode.empty()) {
    std::vector<std::string> times;
    for (const DecodeAnswer& of : answer.decode)
      for (const DecodeTime& time : of.times) times.push_back(decode_json(of, time));
    json.raw("decode", list_of(times));
  }
  return json.object();
}

}  // namespace colossus
