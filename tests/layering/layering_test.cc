#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "house_rules.h"

namespace colossus::house {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string layers_text() {
  return read_text(std::filesystem::path(COLOSSUS_SOURCE_DIR) / "tests/layering/layers.txt");
}

TEST(House, StandsByItsRules) {
  const std::vector<SourceFile> files = project_files(COLOSSUS_SOURCE_DIR);
  ASSERT_GT(files.size(), 50u);
  const std::vector<std::string> faults = HouseRules(layers_text()).check(files);
  EXPECT_THAT(faults, IsEmpty()) << fmt::format("{}", fmt::join(faults, "\n"));
}

struct Sample {
  const char* path;
  std::string text;
  const char* fault;  // part of it; "" when there is none
};

class HouseSamples : public testing::TestWithParam<Sample> {};

TEST_P(HouseSamples, AreJudgedRight) {
  const std::vector<std::string> faults = HouseRules(layers_text()).check({{GetParam().path, GetParam().text}});
  if (*GetParam().fault == 0) {
    EXPECT_THAT(faults, IsEmpty()) << GetParam().path << "\n" << GetParam().text;
  } else {
    EXPECT_THAT(faults, ElementsAre(HasSubstr(GetParam().fault))) << GetParam().path << "\n" << GetParam().text;
  }
}

const std::string kHome =
    "/ho"
    "me/someone/text";

INSTANTIATE_TEST_SUITE_P(
    All, HouseSamples,
    testing::Values(
        // Floors.
        Sample{"src/tensor/a.h", "#include \"base/check.h\"\n#include <vector>\n#include \"tensor/b.h\"\n", ""},
        Sample{"src/base/a.h", "\n#include \"tensor/shape.h\"\n",
               "src/base/a.h:2: must not include \"tensor/shape.h\""},
        Sample{"src/base/a.h", "  #  include \"tensor/shape.h\"\n", "must not include"},
        Sample{"src/tensor/a.h", "#include \"io/file_system.h\"\n", "must not include"},  // sideways
        Sample{"src/model/a.cc", "#include \"device/device.h\"\n", "must not include"},
        Sample{"src/program/a.cc", "#include \"ops/matmul/matmul.h\"\n", ""},  // one library
        Sample{"src/ops/matmul/matmul.cc", "#include \"program/op.h\"\n", ""},
        Sample{"src/ops/matmul/matmul.cc", "#include \"text/utf8.h\"\n", "must not include"},
        Sample{"src/ops/matmul/matmul.cc", "#include \"device/device.h\"\n", "must not include"},
        Sample{"src/ops/matmul/matmul.cc", "#include \"ops/matmul/matmul_simd.h\"\n", "must not include"},
        Sample{"src/ops/matmul/matmul_cpu.cc", "#include \"device/device.h\"\n#include \"program/op.h\"\n", ""},
        Sample{"src/ops/matmul/matmul_test.cc", "#include \"device/device.h\"\n", ""},
        Sample{"src/ops/matmul/matmul_cuda.cu", "#include \"device/device.h\"\n", ""},
        Sample{"src/ops/matmul/matmul_cpu.cc", "#include \"train/step.h\"\n", "must not include"},
        Sample{"src/cli/main.cc", "#include \"train/step.h\"\n#include \"cli/exit_code.h\"\n", ""},
        Sample{"src/base/a.cc", "#include \"check.h\"\n", "must be written from src/"},
        Sample{"src/utilities/a.cc", "", "on no floor"},
        // SIMD files.
        Sample{"src/ops/a/a_simd.cc",
               "#include <immintrin.h>\n#include <stdint.h>\n#include \"device/cpu/simd.h\"\n#include "
               "\"ops/a/a_simd.h\"\n",
               ""},
        Sample{"src/ops/a/a_simd.cc", "#include <vector>\n", "not vector"},
        Sample{"src/ops/a/a_simd.cc", "#include <cstdint>\n", "not cstdint"},
        Sample{"src/ops/a/a_simd.cc", "#include \"tensor/view.h\"\n", "not tensor/view.h"},
        Sample{"src/ops/a/a_cpu.cc", "#include <vector>\n#include \"tensor/view.h\"\n", ""},
        // Lengths.
        Sample{"src/base/a.cc", std::string(600, '\n'), ""},
        Sample{"src/base/a.cc", std::string(601, '\n'), "601 lines"},
        Sample{"src/base/a.h", std::string(301, '\n'), "301 lines"},
        Sample{"docs/long.md", std::string(5000, '\n'), ""},
        // Machines.
        Sample{"docs/a.md", "see\n`" + kHome + "`", "docs/a.md:2:"}, Sample{"scripts/a.sh", kHome, "scripts/a.sh:1:"},
        Sample{"docs/a.md", "https://example.org" + kHome, ""}));

TEST(House, SimdFilesAreJudgedByAllTheyReach) {
  const std::vector<std::string> faults = HouseRules(layers_text())
                                              .check({{"src/ops/a/a_simd.cc", "#include \"ops/a/a_simd.h\"\n"},
                                                      {"src/ops/a/a_simd.h", "#include \"device/cpu/b.h\"\n"},
                                                      {"src/device/cpu/b.h", "\n#include <algorithm>\n"}});
  EXPECT_THAT(faults, ElementsAre(HasSubstr("src/device/cpu/b.h:2: ")));
}

TEST(House, TypesOfOneNameAreFoundInHeaders) {
  const auto faults_of = [](const std::string& one, const std::string& other) {
    return HouseRules(layers_text())
        .check({{"src/base/a.h", "namespace colossus {\n" + one + "}  // namespace colossus\n"},
                {"src/io/b.h", "namespace colossus {\n" + other + "}  // namespace colossus\n"}});
  };
  EXPECT_THAT(faults_of("struct Sum {\n};\n", "enum class Sum : uint8_t { kA };\n"),
              ElementsAre(HasSubstr("colossus::Sum is defined in src/base/a.h, too")));
  EXPECT_THAT(faults_of("template <class T>\nclass Sum final : public A {\n};\n", "struct Sum {\n};\n"),
              ElementsAre(HasSubstr("colossus::Sum")));
  EXPECT_THAT(faults_of("struct Sum {\n};\n", "struct Sum;\nstruct Other {\n  struct Sum {\n  };\n};\n"), IsEmpty());
  EXPECT_THAT(faults_of("struct Sum {\n};\n", "namespace deep {\nstruct Sum {\n};\n}  // namespace deep\n"), IsEmpty());
}

TEST(House, AnUnknownRuleIsAFault) {
  EXPECT_THAT(HouseRules("flor: base\n").check({}), ElementsAre(HasSubstr("flor: base")));
}

}  // namespace
}  // namespace colossus::house
