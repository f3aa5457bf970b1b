// What the command line says of itself, and to those who mistype.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/testing.h"
#include "process.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Outcome run(std::vector<std::string> words) {
  const TemporaryDirectory directory;
  words.insert(words.begin(), COLOSSUS_BINARY);
  return Process(words, directory.path()).wait();
}

struct HelpCase {
  std::vector<std::string> words;
  std::vector<std::string> mentions;
};

TEST(Usage, EveryCommandHasHelp) {
  const HelpCase kCases[] = {
      {{},
       {"tokenizer", "data", "train", "generate", "chat", "eval", "checkpoint", "import", "export", "inspect",
        "program", "Exit codes:", "130"}},
      {{"tokenizer"}, {"train", "encode", "decode", "inspect", "convert", "evaluate"}},
      {{"tokenizer", "train"}, {"--vocab", "32768", "--kind", "bpe|char", "--split", "--threads", "0 to 1024"}},
      {{"tokenizer", "encode"}, {"--pieces", "standard input"}},
      {{"tokenizer", "decode"}, {"standard input"}},
      {{"tokenizer", "inspect"}, {"tokenizer.json"}},
      {{"data"}, {"build", "inspect"}},
      {{"data", "build"}, {"--validation-fraction", "--dedupe", "REQUIRED"}},
      {{"data", "inspect"}, {"--sample"}},
      {{"train"},
       {"--set", "--fresh", "train.steps", "optimizer steps", "model.num_layers", "optimizer.learning_rate"}},
      {{"generate"}, {"--temperature", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--seed", "--stop"}},
      {{"chat"}, {"--system", "--complete"}},
      {{"eval"}, {"loss"}},
      {{"devices"}, {"GPU"}},
      {{"eval", "loss"}, {"--split", "train|validation", "xz -9"}},
      {{"checkpoint"}, {"show", "verify", "consolidate"}},
      {{"import"}, {"--tokenizer", "llama2.c", "REQUIRED"}},
      {{"export"}, {"--family", "--shard-gb", "hf|gguf", "q8_0", "REQUIRED"}},
      {{"inspect"}, {"--checksums", "--json"}},
      {{"checkpoint", "consolidate"}, {"--model-only", "REQUIRED"}},
      {{"program"}, {"show"}},
      {{"plan"}, {"--compare", "--sweep", "--csv", "--html", "--validate", "f32|bf16|fp8|fp4"}},
      {{"program", "show"}, {"--batch", "--seq", "--recompute", "none|selective|full"}},
  };
  for (const HelpCase& help : kCases) {
    std::vector<std::string> words = help.words;
    words.emplace_back("--help");
    const Outcome outcome = run(words);
    SCOPED_TRACE(help.words.empty() ? "colossus" : help.words.back());
    EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
    EXPECT_EQ(outcome.err, "");
    for (const std::string& mention : help.mentions) EXPECT_THAT(outcome.out, HasSubstr(mention));
  }
  EXPECT_THAT(run({"--version"}).out, testing::MatchesRegex("colossus [0-9]+\\.[0-9]+\\.[0-9]+\n"));
}

struct Slip {
  std::vector<std::string> words;
  std::string said;
};

TEST(Usage, SlipsAreNamedWithWhatWasProbablyMeant) {
  const Slip kSlips[] = {
      {{}, "subcommand is required"},
      {{"tran"}, "there is no command \"tran\"; did you mean train?"},
      {{"tokenizer", "encdoe"}, "there is no command \"encdoe\"; did you mean encode?"},
      {{"data"}, "subcommand is required"},
      {{"generate", "x", "--temprature", "1"}, "there is no option --temprature; did you mean --temperature?"},
      {{"generate", "x", "--temprature=1"}, "there is no option --temprature; did you mean --temperature?"},
      {{"generate", "x", "--temperature", "hot"}, "got hot; needed a number, 0 to 100"},
      {{"generate", "x", "--top-p", "1.5"}, "got 1.5; needed 1e-09 to 1"},
      {{"generate", "x", "--max-tokens", "0"}, "got 0; needed at least 1"},
      {{"generate", "x", "--compute", "fp32"}, "got fp32; needed one of auto, f32, bf16; did you mean f32?"},
      {{"generate"}, "model is required"},
      {{"data", "build", "a.txt", "--out", "b"}, "--tokenizer is required"},
      {{"tokenizer", "train", "a.txt", "--out", "b", "--split", "cl100"}, "did you mean cl100k?"},
      {{"train", "--set", "train.step=5"}, "train.step: unknown key; did you mean train.steps?"},
      {{"train", "--set", "train.steps"}, "train.steps"},
      {{"program", "show", "x", "--recompute", "all"}, "needed one of none, selective, full"},
  };
  for (const Slip& slip : kSlips) {
    SCOPED_TRACE(testing::PrintToString(slip.words));
    const Outcome outcome = run(slip.words);
    EXPECT_EQ(outcome.exit_code, 2);
    EXPECT_EQ(outcome.out, "");
    EXPECT_THAT(outcome.err, AllOf(testing::StartsWith("colossus: "), HasSubstr(slip.said)));
  }
}

// Each given once takes one value: the argument behind it is not swallowed.
TEST(Usage, ARepeatableOptionTakesOneValueEachTime) {
  const Outcome outcome = run({"train", "--set", "train.steps=5", "absent.toml"});
  EXPECT_EQ(outcome.exit_code, 3) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("absent.toml"));
}

// Whatever was built and whatever is there, a GPU that is asked for in vain is told why.
TEST(Usage, DevicesAreListedAndAsked) {
  const Outcome listed = run({"devices"});
  EXPECT_EQ(listed.exit_code, 0) << listed.err;
  EXPECT_THAT(listed.out, HasSubstr("cpu: "));
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda:-1", "cudaX"}) {
    const Outcome refused = run({"generate", "nothing", "--device", device});
    EXPECT_NE(refused.exit_code, 0);
    EXPECT_THAT(refused.err, AllOf(HasSubstr("[--device]"), HasSubstr(device), HasSubstr("cuda:N")));
  }
  const Outcome absent = run({"generate", "nothing", "--device", "cuda:77"});
  EXPECT_NE(absent.exit_code, 0);
  EXPECT_THAT(absent.err, testing::AnyOf(HasSubstr("CUDA"), HasSubstr("driver"), HasSubstr("GPU 77")));
}

}  // namespace
}  // namespace colossus
