// config.json of a Hugging Face directory.
#include "convert/hf_config.h"

#include "io/checked_json.h"
#include "fuzz/fuzz.h"
#include "io/config.h"

using namespace colossus;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  const HeapLimit limit(size);
  const auto json = parse_checked_json(text_of(bytes, size), "config.json");
  if (!json.ok()) return 0;
  const auto model = read_hf_config(*json, "config.json");
  if (!model.ok()) return 0;
  note_accepted();
  const auto written = parse_checked_json(write_hf_config(model->config, *model->family, "bfloat16").dump(), "written");
  CHECK(written.ok());
  const auto again = read_hf_config(*written, "config.json");
  CHECK(again.ok(), again.status().message().c_str());
  CHECK(print_config(again->config) == print_config(model->config), "a model is written and read again equal");
  return 0;
}
