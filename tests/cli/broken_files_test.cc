// Files and settings broken in many ways, given to the real binary: each is refused with the exit code that says what
// kind of fault it is and a message that names the place. The parsers have many more such cases beside their code; here
// it is seen that nothing on the way to the terminal swallows them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "workplace.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kWrong = 2, kMissing = 3, kExhausted = 4, kCorrupt = 5;

struct Breakage {
  const char* name;
  std::function<void(const Workplace&)> break_it;
  std::vector<std::string> words;
  int exit_code;
  std::vector<std::string> said;
};

// The work place is made once for all cases; what a case breaks is mended by its copy.
void check_all(const Workplace& place, const std::vector<std::string>& copied, const std::vector<Breakage>& cases) {
  for (const std::string& name : copied) place.shell("cp -r " + name + " " + name + ".good");
  for (const Breakage& broken : cases) {
    SCOPED_TRACE(broken.name);
    for (const std::string& name : copied) place.shell("rm -rf " + name + " && cp -r " + name + ".good " + name);
    broken.break_it(place);
    const Outcome outcome = place.run(broken.words);
    EXPECT_EQ(outcome.exit_code, broken.exit_code) << outcome.err;
    EXPECT_THAT("\n" + outcome.err, HasSubstr("\ncolossus: "));
    for (const std::string& said : broken.said) EXPECT_THAT(outcome.err, HasSubstr(said));
  }
}

auto put(std::string path, std::string text) {
  return [=](const Workplace& place) { place.write(path, text); };
}

auto replace(std::string path, std::string from, std::string to) {
  return [=](const Workplace& place) {
    std::string text = place.read(path);
    const size_t at = text.find(from);
    ASSERT_NE(at, std::string::npos) << from << " is not in " << path;
    place.write(path, text.replace(at, from.size(), to));
  };
}

auto shell(std::string script) {
  return [=](const Workplace& place) { ASSERT_EQ(place.shell(script).exit_code, 0) << script; };
}

// Flips one bit in the middle of the file.
auto flip(std::string pattern) {
  return [=](const Workplace& place) {
    const Outcome found = place.shell("printf %s " + pattern);
    std::string bytes = place.read(found.out);
    bytes[bytes.size() / 2] ^= 4;
    place.write(found.out, bytes);
  };
}

TEST(BrokenFiles, Configurations) {
  const Workplace place;
  const std::vector<std::string> train = {"train", "run.toml", "--data", "shards", "--out", "run"};
  const auto with = [&](const std::string& setting) {
    auto words = train;
    words.insert(words.end(), {"--set", setting});
    return words;
  };
  const auto nothing = [](const Workplace&) {};
  check_all(
      place, {"run.toml", "shards"},
      {{"no such file", shell("rm run.toml"), train, kMissing, {"run.toml"}},
       {"no TOML", put("run.toml", "[model\nwidth = 3"), train, kWrong, {"[run.toml:1"}},
       {"unknown key",
        put("run.toml", "[model]\nwidht = 32\n"),
        train,
        kWrong,
        {"run.toml:2", "did you mean model.width?"}},
       {"unknown table", put("run.toml", "[modle]\nwidth = 32\n"), train, kWrong, {"did you mean model?"}},
       {"a word for a number",
        put("run.toml", "[model]\nwidth = \"wide\"\n"),
        train,
        kWrong,
        {"run.toml:2", "model.width"}},
       {"a fraction for a whole number", nothing, with("model.width=1.5"), kWrong, {"model.width"}},
       {"zero layers", nothing, with("model.num_layers=0"), kWrong, {"model.num_layers", "at least 1"}},
       {"heads that do not divide", nothing, with("model.num_kv_heads=3"), kWrong, {"num_kv_heads"}},
       {"more experts a token than experts",
        nothing,
        with("model.num_experts_per_token=9"),
        kWrong,
        {"num_experts_per_token"}},
       {"unknown family", nothing, with("model.family=gork-1"), kWrong, {"did you mean", "grok-1"}},
       {"unknown optimizer", nothing, with("optimizer.kind=adam"), kWrong, {"adamw"}},
       {"negative steps", nothing, with("train.steps=-1"), kWrong, {"train.steps", "at least 1"}},
       {"microbatch that does not divide",
        nothing,
        with("train.microbatch=3"),
        kWrong,
        {"microbatch", "does not divide"}},
       {"leaves that are no power of two", nothing, with("train.reduction_leaves=3"), kWrong, {"power of two"}},
       {"sequences longer than the context", nothing, with("train.tokens=64"), kWrong, {"train.tokens", "context"}},
       {"vocabulary below the tokenizer's", nothing, with("model.vocab_size=100"), kWrong, {"vocab_size", "300"}},
       {"all faults at once",
        put("run.toml", "[model]\nwidht = 1\n[train]\nsteps = 0\n"),
        train,
        kWrong,
        {"2 faults", "model.width", "train.steps"}},
       {"shards that are not there",
        nothing,
        {"train", "run.toml", "--data", "absent", "--out", "run"},
        kMissing,
        {"absent"}},
       {"no shards named", nothing, {"train", "run.toml", "--out", "run"}, kWrong, {"colossus data build"}},
       {"rows longer than the text",
        nothing,
        {"train", "run.toml", "--data", "shards", "--out", "run", "--set", "model.context=100000", "--set",
         "train.tokens=100000"},
        kWrong,
        {"tokens"}}});
}

TEST(BrokenFiles, Tokenizers) {
  const Workplace place;
  const std::vector<std::string> encode = {"tokenizer", "encode", "tok.json", "text.txt"};
  check_all(place, {"tok.json", "shards"},
            {{"no such file", shell("rm tok.json"), encode, kMissing, {"tok.json"}},
             {"a directory", shell("rm tok.json; mkdir tok.json"), encode, kWrong, {"tok.json"}},
             {"empty", put("tok.json", ""), encode, kCorrupt, {"tok.json"}},
             {"no JSON", put("tok.json", "hello"), encode, kCorrupt, {"tok.json"}},
             {"cut", shell("head -c 3000 tok.json > cut && mv cut tok.json"), encode, kCorrupt, {"tok.json"}},
             {"another kind of model", replace("tok.json", "\"BPE\"", "\"WordPiece\""), encode, kWrong, {"WordPiece"}},
             {"a normalizer",
              replace("tok.json", "\"normalizer\": null", "\"normalizer\": {\"type\": \"Nmt\"}"),
              encode,
              kWrong,
              {"normalizer"}},
             {"ids that are no tokens",
              put("ids.txt", "1 2 99999"),
              {"tokenizer", "decode", "tok.json", "ids.txt"},
              kWrong,
              {"ids.txt", "99999", "0 to 299"}},
             {"no text to train on",
              put("empty.txt", ""),
              {"tokenizer", "train", "--out", "new.json", "empty.txt"},
              kWrong,
              {"text"}},
             {"text that is not there",
              [](const Workplace&) {},
              {"tokenizer", "train", "--out", "new.json", "absent.txt"},
              kMissing,
              {"absent.txt"}},
             {"a vocabulary too small",
              [](const Workplace&) {},
              {"tokenizer", "train", "--vocab", "10", "--out", "new.json", "text.txt"},
              kWrong,
              {"10"}},
             {"another tokenizer than the shards'",
              shell(std::string(COLOSSUS_BINARY) + " tokenizer train --vocab 290 --out shards/tokenizer.json text.txt"),
              {"train", "run.toml", "--data", "shards", "--out", "run"},
              kWrong,
              {"shards/tokenizer.json", "is not the tokenizer"}},
             {"shards without their tokenizer",
              shell("rm shards/tokenizer.json"),
              {"train", "run.toml", "--data", "shards", "--out", "run"},
              kMissing,
              {"shards/tokenizer.json"}}});
}

TEST(BrokenFiles, Shards) {
  const Workplace place;
  const std::vector<std::string> inspect = {"data", "inspect", "shards"};
  const std::vector<std::string> train = {"train", "run.toml", "--data", "shards", "--out", "run"};
  check_all(place, {"shards"},
            {{"no index", shell("rm shards/index.json"), inspect, kMissing, {"index.json"}},
             {"an index that is no JSON", put("shards/index.json", "{"), inspect, kCorrupt, {"index.json"}},
             {"an index of something else", put("shards/index.json", "{}"), inspect, kWrong, {"index.json"}},
             {"a shard is gone", shell("rm shards/train-*.tokens"), inspect, kMissing, {"train-"}},
             {"a shard is cut", shell("truncate -s -8 shards/train-*.tokens"), inspect, kCorrupt, {"train-"}},
             {"a shard is cut to nothing", shell("truncate -s 0 shards/train-*.tokens"), inspect, kCorrupt, {"train-"}},
             {"a shard has bytes behind it",
              shell("for f in shards/train-*.tokens; do echo >> $f; done"),
              inspect,
              kCorrupt,
              {"train-"}},
             {"one bit of the tokens",
              flip("shards/train-*.tokens"),
              inspect,
              kCorrupt,
              {"colossus: [shards/train-", "were changed"}},
             {"one bit, found in training",
              flip("shards/train-*.tokens"),
              train,
              kCorrupt,
              {"colossus: [shards/train-", "were changed"}},
             {"one bit of the held-out text",
              flip("shards/validation-*.tokens"),
              train,
              kCorrupt,
              {"colossus: [shards/validation-", "were changed"}},
             {"input that is not there",
              [](const Workplace&) {},
              {"data", "build", "--tokenizer", "tok.json", "--out", "shards", "absent/**"},
              kMissing,
              {"absent"}},
             {"input without text",
              shell("mkdir -p nothing && head -c 100 /dev/zero > nothing/zero"),
              {"data", "build", "--tokenizer", "tok.json", "--out", "shards", "nothing"},
              kWrong,
              {"no text"}},
             {"JSON lines without the field",
              put("a.jsonl", "{\"body\": \"x\"}\n"),
              {"data", "build", "--tokenizer", "tok.json", "--out", "shards", "a.jsonl"},
              kWrong,
              {"a.jsonl:1", "text"}},
             {"a cut gzip file",
              shell("gzip -kf text.txt && truncate -s 500 text.txt.gz"),
              {"data", "build", "--tokenizer", "tok.json", "--out", "shards", "text.txt.gz"},
              kCorrupt,
              {"text.txt.gz"}}});
  // None of the refused builds touched the shards there were.
  place.must_succeed({"data", "inspect", "shards"});
}

TEST(BrokenFiles, Checkpoints) {
  const Workplace place;
  const std::vector<std::string> short_run = {"train", "run.toml", "--data", "shards",
                                              "--out", "run",      "--set",  "train.steps=10"};
  place.must_succeed(short_run);
  const std::string step = place.newest_checkpoint("run");
  const std::vector<std::string> generate = {"generate", step, "--max-tokens", "1"},
                                 newest = {"generate", "run", "--max-tokens", "1"};
  check_all(
      place, {"run"},
      {{"no run", shell("rm -r run"), newest, kMissing, {"run"}},
       {"a run without checkpoints", shell("rm -r run/checkpoints"), newest, kMissing, {"checkpoint"}},
       {"no manifest", shell("rm " + step + "/manifest.json"), generate, kMissing, {"manifest.json"}},
       {"a cut manifest", shell("truncate -s -9 " + step + "/manifest.json"), generate, kCorrupt, {"manifest.json"}},
       {"no parameters", shell("rm " + step + "/model.safetensors"), generate, kMissing, {"model.safetensors"}},
       {"cut parameters",
        shell("truncate -s -4 " + step + "/model.safetensors"),
        generate,
        kCorrupt,
        {"model.safetensors", "bytes long"}},
       {"one bit of a parameter", flip(step + "/model.safetensors"), generate, kCorrupt, {"checksum"}},
       {"another configuration",
        replace(step + "/model.toml", "width = 32", "width = 64"),
        generate,
        kCorrupt,
        {"model.toml", "checksum"}},
       {"another tokenizer",
        replace(step + "/tokenizer.json", "the", "eht"),
        generate,
        kCorrupt,
        {"tokenizer.json", "checksum"}},
       {"one bit of the optimizer state, resumed",
        flip(step + "/optimizer.safetensors"),
        short_run,
        kCorrupt,
        {"optimizer.safetensors", "--fresh"}},
       {"two files with a fault each, verified",
        [=](const Workplace& damaged) {
          flip(step + "/model.safetensors")(damaged);
          flip(step + "/optimizer.safetensors")(damaged);
        },
        {"checkpoint", "verify", step},
        kCorrupt,
        {"model.safetensors] tensor", "optimizer.safetensors] tensor", "in block 0", "2 faults"}},
       {"a run with a fault, verified",
        flip(step + "/model.safetensors"),
        {"checkpoint", "verify", "run"},
        kCorrupt,
        {"model.safetensors] tensor", "1 fault"}},
       {"one bit of a parameter, made into one",
        flip(step + "/model.safetensors"),
        {"checkpoint", "consolidate", "run", "one"},
        kCorrupt,
        {"model.safetensors] tensor"}},
       {"verifying what is not there",
        [](const Workplace&) {},
        {"checkpoint", "verify", "absent"},
        kMissing,
        {"absent"}},
       {"showing what is no checkpoint",
        [](const Workplace&) {},
        {"checkpoint", "show", "shards"},
        kMissing,
        {"shards"}},
       {"a prompt longer than the context",
        [](const Workplace&) {},
        {"generate", "run", "--prompt", std::string(400, 'x')},
        kExhausted,
        {"context"}},
       {"shards of another tokenizer",
        shell(std::string(COLOSSUS_BINARY) + " tokenizer train --vocab 290 --out other.json text.txt && " +
              COLOSSUS_BINARY + " data build --tokenizer other.json --out other text.txt"),
        {"eval", "loss", "run", "--data", "other"},
        kWrong,
        {"other", "290", "300"}}});
}

// A broken newest checkpoint costs the steps since the one before, not the run.
TEST(BrokenFiles, ABrokenNewestCheckpointIsPassedOver) {
  const Workplace place;
  const std::vector<std::string> short_run = Workplace::train("run", {"--set", "train.steps=40"});
  place.must_succeed(short_run);
  const std::vector<std::string> losses = place.losses("run");
  flip(place.newest_checkpoint("run") + "/optimizer.safetensors")(place);
  const Outcome resumed = place.must_succeed(short_run);
  EXPECT_THAT(resumed.err, AllOf(HasSubstr("passed over"), HasSubstr("done after step 40")));
  EXPECT_EQ(place.losses("run"), losses);
}

}  // namespace
}  // namespace colossus
