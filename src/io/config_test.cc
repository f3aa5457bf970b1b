#include "io/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "base/rng.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::HasSubstr;

enum class Rule { kAdamW, kMuon };
auto field_choices(Rule) { return std::to_array<FieldChoice<Rule>>({{Rule::kAdamW, "adamw"}, {Rule::kMuon, "muon"}}); }

struct Net {
  int num_heads = 48;
  int64_t num_kv_heads = 8;
  double dropout = 0;
  bool operator==(const Net&) const = default;
  void visit_fields(FieldVisitor& v) {
    v.field("num_heads", num_heads, "query heads", {.min = 1});
    v.field("num_kv_heads", num_kv_heads, "key and value heads", {.min = 1});
    v.field("dropout", dropout, "share of activations set to zero", {.min = 0, .max = 0.9});
  }
  void check_fields(FieldChecker& c) const {
    c.require(num_heads % num_kv_heads == 0, "num_kv_heads", "does not divide num_heads = 48; try 6 or 8");
  }
};

struct Source {
  std::string path;
  double weight = 1;
  bool operator==(const Source&) const = default;
  void visit_fields(FieldVisitor& v) {
    v.field("path", path, "a file or directory");
    v.field("weight", weight, "how often", {.above = 0});
  }
};

struct Train {
  Net net;  // before the plain fields on purpose: printing must still put them first
  int64_t steps = 2000;
  double learning_rate = 3e-4;
  std::optional<double> clip_norm = 1.0;
  Rule rule = Rule::kAdamW;
  bool resume = true;
  std::string name = "run";
  std::vector<std::string> stops;
  std::vector<double> betas = {0.9, 0.95};
  std::vector<Source> sources;
  bool operator==(const Train&) const = default;
  void visit_fields(FieldVisitor& v) {
    v.group("net", net, "the network");
    v.field("steps", steps, "optimizer steps", {.unit = "steps", .min = 1});
    v.field("learning_rate", learning_rate, "peak learning rate", {.above = 0});
    v.field("clip_norm", clip_norm, "largest norm of the gradient", {.above = 0});
    v.field("rule", rule, "rule of the update");
    v.field("resume", resume, "go on from the last checkpoint");
    v.field("name", name, "name of the run");
    v.field("stops", stops, "strings that end a sample");
    v.field("betas", betas, "decay of the moments", {.min = 0, .max = 1});
    v.list("sources", sources, "texts and their weights");
  }
};

struct Job {
  Train train;
  bool operator==(const Job&) const = default;
  void visit_fields(FieldVisitor& v) { v.group("train", train, "training"); }
};

// Only reads; what a configuration needs.
class TextFiles final : public FileSystem {
 public:
  explicit TextFiles(std::map<std::string, std::string> texts) : texts_(std::move(texts)) {}
  Result<std::unique_ptr<FileReader>> open(const std::string& path) override {
    const auto found = texts_.find(path);
    if (found == texts_.end()) return not_found(path + ": no such file");
    return std::unique_ptr<FileReader>(std::make_unique<Reader>(found->second));
  }
  Result<std::unique_ptr<FileWriter>> create(const std::string&) override { return no(); }
  Result<std::unique_ptr<FileWriter>> open_to_append(const std::string&) override { return no(); }
  Status rename(const std::string&, const std::string&) override { return no(); }
  Status remove_all(const std::string&) override { return no(); }
  Status make_directories(const std::string&) override { return no(); }
  Status sync_directory(const std::string&) override { return no(); }
  Result<FileEntry> stat(const std::string&) override { return no(); }
  Result<std::vector<FileEntry>> list(const std::string&) override { return no(); }
  Result<int64_t> free_bytes(const std::string&) override { return no(); }

 private:
  struct Reader final : FileReader {
    explicit Reader(const std::string& text) : text_(text) {}
    int64_t size() const override { return static_cast<int64_t>(text_.size()); }
    Result<int64_t> read_at(int64_t offset, std::span<std::byte> into) override {
      const size_t count = std::min(into.size(), text_.size() - static_cast<size_t>(offset));
      std::copy_n(reinterpret_cast<const std::byte*>(text_.data()) + offset, count, into.data());
      return static_cast<int64_t>(count);
    }
    std::string text_;
  };
  static Status no() { return unavailable("read only"); }
  std::map<std::string, std::string> texts_;
};

using Overrides = std::vector<std::string>;

Result<Job> parse(std::string_view text, const Overrides& overrides = {}) {
  return parse_config<Job>(text, "job.toml", overrides);
}

TEST(Config, ReadsEveryKindOfField) {
  const auto run = parse(R"([train]
steps = 1e6
learning_rate = 1
clip_norm = "none"
rule = "muon"
resume = false
name = "x"
stops = "one"
betas = [0.8, 1]
net.num_heads = 12
net.num_kv_heads = 4
[[train.sources]]
path = "a"
[[train.sources]]
path = "b"
weight = 2
)");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->train, (Train{.net = {12, 4, 0},
                               .steps = 1'000'000,
                               .learning_rate = 1,
                               .clip_norm = std::nullopt,
                               .rule = Rule::kMuon,
                               .resume = false,
                               .name = "x",
                               .stops = {"one"},
                               .betas = {0.8, 1},
                               .sources = {{"a", 1}, {"b", 2}}}));
}

TEST(Config, EmptyTextIsAllDefaults) {
  const auto run = parse("");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(*run, Job{});
}

TEST(Config, OverridesWinAndNeedNoQuotes) {
  const auto run = parse("[train]\nsteps = 5\nname = \"file\"",
                         {"train.steps=7", "train.rule=muon", "train.name=007", "train.stops=[\"a\", \"b\"]",
                          "train.net.dropout=.5", "train.net.dropout=0.25"});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->train.steps, 7);
  EXPECT_EQ(run->train.rule, Rule::kMuon);
  EXPECT_EQ(run->train.name, "007");
  EXPECT_EQ(run->train.stops, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(run->train.net.dropout, 0.25);
}

TEST(Config, PrintedTextReadsBackEqual) {
  Job run;
  run.train.net = {6, 3, 0.1};
  run.train.learning_rate = 1.0 / 3;
  run.train.clip_norm.reset();
  run.train.name = "quote \" back \\ tab \t line \n bell \a caf\xc3\xa9";
  run.train.sources = {{"a", 1e-30}, {"b", 2}};
  for (const bool comments : {false, true}) {
    const std::string text = print_config(run, {.comments = comments});
    const auto again = parse_config<Job>(text, "printed");
    ASSERT_TRUE(again.ok()) << again.status().message() << "\n" << text;
    EXPECT_EQ(*again, run) << text;
  }
  // Empty lists and cleared optionals must not come back as a default.
  Job defaults;
  defaults.train.sources = {{"default", 1}};
  run.train.sources.clear();
  const auto again = parse_config<Job>(print_config(run), "printed", {}, defaults);
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, run);
}

TEST(Config, PrintsOwnFieldsBeforeTables) {
  EXPECT_THAT(print_config(Job{}), testing::StartsWith("[train]\nsteps = 2000\nlearning_rate = 0.0003\n"));
}

struct Fault {
  const char* text;
  Overrides overrides;
  const char* message;  // exactly
};

class ConfigFaults : public testing::TestWithParam<Fault> {};

TEST_P(ConfigFaults, NamePlaceGotAndNeeded) {
  const auto run = parse(GetParam().text, GetParam().overrides);
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.status().message(), GetParam().message);
  EXPECT_EQ(run.status().code(), ErrorCode::kInvalid);
}

INSTANTIATE_TEST_SUITE_P(
    All, ConfigFaults,
    testing::Values(
        Fault{"[train]\nstep = 5", {}, "[job.toml:2] train.step: unknown key; did you mean train.steps?"},
        Fault{"[train]\nlaerning_rate = 5",
              {},
              "[job.toml:2] train.laerning_rate: unknown key; did you mean train.learning_rate?"},
        Fault{"\n\nnum_heads = 5", {}, "[job.toml:3] num_heads: unknown key; did you mean train.net.num_heads?"},
        Fault{"[qqqqqqq]\nx = 5", {}, "[job.toml:1] qqqqqqq: unknown key; known here: train"},
        Fault{"[train]\nsteps = \"many\"", {}, "[job.toml:2] train.steps = \"many\" must be a whole number (steps)"},
        Fault{"[train]\nsteps = 2.5", {}, "[job.toml:2] train.steps = 2.5 must be a whole number (steps)"},
        Fault{"[train]\nsteps = 1e300", {}, "[job.toml:2] train.steps = 1e+300 must be a whole number (steps)"},
        Fault{"[train]\nsteps = 0", {}, "[job.toml:2] train.steps = 0 must be at least 1 (steps)"},
        Fault{"[train]\nlearning_rate = 0", {}, "[job.toml:2] train.learning_rate = 0 must be above 0"},
        Fault{"[train]\nlearning_rate = nan", {}, "[job.toml:2] train.learning_rate = nan must be a number"},
        Fault{"[train]\nclip_norm = -1", {}, "[job.toml:2] train.clip_norm = -1 must be above 0"},
        Fault{"[train]\nresume = 1", {}, "[job.toml:2] train.resume = 1 must be true or false"},
        Fault{"[train]\nname = 7", {}, "[job.toml:2] train.name = 7 must be a string in quotes"},
        Fault{"[train]\nbetas = [0.5, 2]", {}, "[job.toml:2] train.betas = [0.5, 2] must be at most 1"},
        Fault{"[train]\nrule = \"adam\"",
              {},
              "[job.toml:2] train.rule = \"adam\" must be one of adamw, muon; did you mean adamw?"},
        Fault{"[train.net]\nnum_heads = 3000000000",
              {},
              "[job.toml:2] train.net.num_heads = 3000000000 must lie between -2147483648 and 2147483647"},
        Fault{"[train.net]\nnum_kv_heads = 7",
              {},
              "[job.toml:2] train.net.num_kv_heads = 7 does not divide num_heads = 48; try 6 or 8"},
        Fault{"[train.net]\nnum_heads = 7",
              {},
              "[job.toml:1] train.net.num_kv_heads = 8 (default) does not divide num_heads = 48; try 6 or 8"},
        Fault{"train = 3", {}, "[job.toml:1] train = 3 must be a table, or the name of a file that holds it"},
        Fault{"[train]\nsources = [3]", {}, "[job.toml:2] train.sources must hold tables, [[train.sources]]; got 3"},
        Fault{"[[train.sources]]\nweigth = 3",
              {},
              "[job.toml:2] train.sources[0].weigth: unknown key; did you mean train.sources[0].weight?"},
        Fault{"[train]\nname = 2020-01-01",
              {},
              "[job.toml:2] dates and times are not settings; write the value as a string"},
        Fault{"train = \"net.toml\"", {}, "[job.toml:1] cannot read net.toml here: this text stands alone"},
        Fault{"", {"train.step=5"}, "[--set train.step] train.step: unknown key; did you mean train.steps?"},
        Fault{"", {"train.steps=x"}, "[--set train.steps] train.steps = \"x\" must be a whole number (steps)"},
        Fault{"", {"train.steps"}, "[--set] expected key=value, such as train.steps=2000; got \"train.steps\""},
        Fault{"", {"train..steps=1"}, "[--set train..steps] \"\" is not a key"},
        Fault{"[train]\nsteps = 3",
              {"train.steps.x=1"},
              "[--set train.steps.x] \"train.steps\" is a value (3), not a group"}));

TEST(Config, ListsAllFaultsAtOnce) {
  const auto run = parse("[train]\nsteps = 0\nstopps = 1\n[train.net]\ndropout = 1.5\nnum_kv_heads = 7\n[trian]\n");
  ASSERT_FALSE(run.ok());
  EXPECT_EQ(run.status().message(),
            "4 faults in the configuration:\n"
            "  [job.toml:5] train.net.dropout = 1.5 must be at most 0.9\n"
            "  [job.toml:2] train.steps = 0 must be at least 1 (steps)\n"
            "  [job.toml:3] train.stopps: unknown key; did you mean train.stops?\n"
            "  [job.toml:7] trian: unknown key; did you mean train?");
}

TEST(Config, BrokenTomlNamesTheLine) {
  const auto run = parse("[train]\nsteps = \n");
  ASSERT_FALSE(run.ok());
  EXPECT_THAT(run.status().message(), AllOf(HasSubstr("[job.toml:2]"), HasSubstr("not valid TOML")));
  // Deep nesting must be a fault, not a stack overflow.
  EXPECT_FALSE(parse("x = " + std::string(100'000, '[')).ok());
  EXPECT_FALSE(parse(std::string("a = \"\xff\xfe\"")).ok());
}

TEST(Config, AnOverrideCannotNestWithoutEnd) {
  std::string path = "a";
  for (int i = 0; i < 100'000; ++i) path += ".a";
  EXPECT_FALSE(parse("", {path + "=1"}).ok());
}

// Any bytes are a configuration or a fault; run under the sanitizers.
TEST(Config, BrokenTextNeverBreaksTheReader) {
  const std::string text =
      print_config(Job{}, {.comments = true}) +
      "[[train.sources]]\npath = \"a\"\n[[train.sources]]\nweight = 1e3\n[x]\ny = {z = [1, [2]]}\n";
  constexpr std::string_view kBytes = "[]{}=.\"'#\n\\\0\xff-1e_z,:";
  int accepted = 0;
  for (uint64_t round = 0; round < 1000; ++round) {
    const RngKey key = {.seed = round};
    std::string broken = text;
    const uint32_t edits = 1 + random_bits(key, 0) % 4;
    for (uint32_t i = 0; i < edits; ++i) {
      const size_t at = random_bits(key, 4 * i + 1) % broken.size();
      const char byte = kBytes[random_bits(key, 4 * i + 2) % kBytes.size()];
      const uint32_t action = random_bits(key, 4 * i + 3) % 3;
      if (action == 0) broken[at] = byte;
      if (action == 1) broken.insert(at, 1, byte);
      if (action == 2) broken.erase(at, 1 + random_bits(key, 4 * i + 4) % 20);
    }
    const auto job = parse(broken);
    accepted += job.ok();
    if (!job.ok()) {
      EXPECT_THAT(job.status().message(), HasSubstr("[job.toml:"));
    }
  }
  EXPECT_LT(accepted, 700);  // the edits do break something
}

TEST(Config, AnOverrideCannotSmuggleInASecondKey) {
  const auto run = parse("", {"train.name=1\nsteps = 3"});
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->train.name, "1\nsteps = 3");
  EXPECT_EQ(run->train.steps, 2000);
}

TEST(ConfigFiles, GroupsAndExtendsAreRelativeToTheFileThatNamesThem) {
  TextFiles files({{"runs/demo.toml", "extends = \"base.toml\"\n[train]\nsteps = 9\n"},
                   {"runs/base.toml", "[train]\nsteps = 5\nname = \"base\"\nnet = \"../nets/small.toml\"\n"},
                   {"nets/small.toml", "extends = \"tiny.toml\"\nnum_heads = 12\n"},
                   {"nets/tiny.toml", "num_heads = 2\nnum_kv_heads = 2\n"}});
  const Overrides overrides = {"train.net.dropout=0.5"};
  const auto run = load_config<Job>(files, "runs/demo.toml", overrides);
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->train.steps, 9);
  EXPECT_EQ(run->train.name, "base");
  EXPECT_EQ(run->train.net, (Net{12, 2, 0.5}));
  // An override's file is relative to where the command runs.
  const Overrides other = {"train.net=nets/tiny.toml", "train.net.num_heads=4"};
  const auto tiny = load_config<Job>(files, "runs/demo.toml", other);
  ASSERT_TRUE(tiny.ok()) << tiny.status().message();
  EXPECT_EQ(tiny->train.net, (Net{4, 2, 0}));
}

TEST(ConfigFiles, ATableOverAFileChangesSingleKeys) {
  TextFiles files({{"a.toml", "extends = \"b.toml\"\n[train.net]\nnum_heads = 16\n"},
                   {"b.toml", "[train]\nnet = \"net.toml\"\n"},
                   {"net.toml", "num_heads = 2\nnum_kv_heads = 2\n"}});
  const auto run = load_config<Job>(files, "a.toml");
  ASSERT_TRUE(run.ok()) << run.status().message();
  EXPECT_EQ(run->train.net, (Net{16, 2, 0}));
}

TEST(ConfigFiles, CyclesMissingFilesAndFaultsInsideAreNamed) {
  TextFiles files({{"loop.toml", "extends = \"pool.toml\""},
                   {"pool.toml", "extends = \"loop.toml\""},
                   {"missing.toml", "\ntrain = \"nowhere.toml\""},
                   {"outer.toml", "[train]\nnet = \"inner.toml\""},
                   {"inner.toml", "\nnum_haeds = 3"}});
  const auto message = [&](const char* path) {
    const auto run = load_config<Job>(files, path);
    return run.ok() ? "ok" : run.status().message();
  };
  EXPECT_EQ(message("loop.toml"), "[loop.toml:1] pool.toml extends itself: pool.toml -> loop.toml -> pool.toml");
  EXPECT_THAT(message("missing.toml"), AllOf(HasSubstr("[missing.toml:2]"), HasSubstr("nowhere.toml")));
  EXPECT_EQ(load_config<Job>(files, "missing.toml").status().code(), ErrorCode::kNotFound);
  EXPECT_EQ(message("outer.toml"),
            "[inner.toml:2] train.net.num_haeds: unknown key; did you mean train.net.num_heads?");
  std::map<std::string, std::string> chain;
  for (int i = 0; i < 40; ++i) chain[std::to_string(i)] = "extends = \"" + std::to_string(i + 1) + "\"";
  TextFiles deep(chain);
  EXPECT_THAT(load_config<Job>(deep, "0").status().message(), HasSubstr("more than 16 files"));
}

TEST(Config, HelpComesFromTheSameDescription) {
  const std::vector<FieldHelp> fields = describe_config<Job>();
  const std::string text = format_field_help(fields, 80);
  EXPECT_THAT(text, HasSubstr("  train.steps = 2000 [steps]\n      optimizer steps (integer; at least 1)\n"));
  EXPECT_THAT(text, HasSubstr("  train.rule = \"adamw\"\n      rule of the update (adamw|muon)\n"));
  EXPECT_THAT(text, HasSubstr("  train.sources[].weight = 1.0\n      how often (number; above 0)\n"));
  for (const FieldHelp& field : fields) EXPECT_FALSE(field.help.empty()) << field.path;
}

TEST(Config, NearestName) {
  const std::vector<std::string> names = {"num_layers", "num_heads", "width"};
  EXPECT_EQ(nearest_name("num_layer", names), "num_layers");
  EXPECT_EQ(nearest_name("widht", names), "width");
  EXPECT_EQ(nearest_name("temperature", names), "");
  EXPECT_EQ(nearest_name("", names), "");
}

}  // namespace
}  // namespace colossus
