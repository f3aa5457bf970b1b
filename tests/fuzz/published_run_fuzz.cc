// A table of published runs.
#include "plan/published_run.h"

#include <cmath>

#include "fuzz/fuzz.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const auto table = CsvTable::parse(text_of(bytes, size), "runs.csv");
  if (!table.ok()) return 0;
  std::string written = csv_record(table->header());
  for (size_t row = 0; row < table->num_rows(); ++row) {
    std::vector<std::string> fields;
    for (const std::string& name : table->header()) fields.push_back(table->at(row, name));
    written += csv_record(fields);
    const auto run = read_published_run(*table, row);
    if (!run.ok()) continue;
    note_accepted();
    CHECK(std::isfinite(run->step_seconds) && run->step_seconds > 0 && run->num_gpus > 0);
    CHECK(std::isfinite(model_flops_of_step(run->model, run->layout)));
  }
  const auto again = CsvTable::parse(written, "again.csv");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(again->header() == table->header() && again->num_rows() == table->num_rows());
  for (size_t row = 0; row < table->num_rows(); ++row)
    for (const std::string& name : table->header())
      CHECK(again->at(row, name) == table->at(row, name), "a table is written and read again equal");
  return 0;
}
