#include "convert/int8_weights.h"

#include <gtest/gtest.h>

#include "convert/testing.h"
#include "tensor/dtype.h"

namespace colossus {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class Int8 : public testing::Test {
 protected:
  // What a file of these tensors makes.
  Status read(const std::vector<ForeignTensor>& tensors) {
    write_safetensors(dir_ / "model.safetensors", tensors);
    auto opened = SafetensorsFile::open(local_files(), dir_ / "model.safetensors");
    CHECK(opened.ok());
    file_ = std::make_shared<const SafetensorsFile>(*std::move(opened));
    Int8Weights weights;
    for (const SafetensorsEntry& entry : file_->tensors())
      if (!weights.take(file_, entry)) passed_.push_back(entry.name);
    return weights.add_to(tensors_, alone_);
  }

  template <class T>
  static std::vector<std::byte> bytes(const std::vector<T>& values) {
    const auto raw = std::as_bytes(std::span(values));
    return {raw.begin(), raw.end()};
  }

  const TemporaryDirectory dir_;
  std::shared_ptr<const SafetensorsFile> file_;
  SourceTensors tensors_;
  std::vector<std::string> alone_, passed_;
};

TEST_F(Int8, ScalesInBf16MakeTensorsInBf16) {
  ASSERT_TRUE(read({{{"w.weight", "I8", {2, 2}}, bytes<int8_t>({1, -2, 3, -128})},
                    {{"w.scales", "BF16", {1, 2}}, bytes<BFloat16>({to_bf16(0.5F), to_bf16(4)})}})
                  .ok());
  const SourceTensor& tensor = tensors_.at("w.weight");
  EXPECT_EQ(tensor.dtype, DType::kBF16);
  EXPECT_EQ(tensor.shape, Shape({2, 2}));
  std::vector<BFloat16> values(4);
  ASSERT_TRUE(tensor.read(0, std::as_writable_bytes(std::span(values))).ok());
  std::vector<float> wide;
  for (const BFloat16 value : values) wide.push_back(to_float(value));
  EXPECT_THAT(wide, ElementsAre(0.5F, -8.0F, 1.5F, -512.0F));
  std::vector<BFloat16> last(1);
  ASSERT_TRUE(tensor.read(6, std::as_writable_bytes(std::span(last))).ok());
  EXPECT_EQ(to_float(last[0]), -512.0F) << "from the middle of it";
}

TEST_F(Int8, OtherTensorsAreNotTaken) {
  ASSERT_TRUE(read({{{"a.weight", "F32", {1}}, bytes<float>({1})},
                    {{"b.scales", "F16", {1}}, bytes<uint16_t>({0})},
                    {{"c", "I8", {1}}, bytes<int8_t>({1})}})
                  .ok());
  EXPECT_THAT(passed_, ElementsAre("a.weight", "b.scales", "c"));
  EXPECT_TRUE(tensors_.empty());
  EXPECT_THAT(alone_, IsEmpty());
}

TEST_F(Int8, AHalfWithoutTheOtherIsNamed) {
  ASSERT_TRUE(
      read({{{"a.weight", "I8", {1}}, bytes<int8_t>({1})}, {{"b.scales", "F32", {1}}, bytes<float>({1})}}).ok());
  EXPECT_THAT(alone_, ElementsAre("a.weight: I8 without its scales", "b.scales: F32 without its weight"));
  EXPECT_TRUE(tensors_.empty());
}

TEST_F(Int8, ScalesThatDoNotFitAreRefused) {
  const auto refusal = [&](const std::vector<int64_t>& weight, const std::vector<int64_t>& scales) {
    const auto elements = [](const std::vector<int64_t>& sizes) {
      int64_t count = 1;
      for (const int64_t size : sizes) count *= size;
      return static_cast<size_t>(count);
    };
    const Status status = read({{{"w.weight", "I8", weight}, std::vector<std::byte>(elements(weight))},
                                {{"w.scales", "F32", scales}, std::vector<std::byte>(4 * elements(scales))}});
    EXPECT_FALSE(status.ok());
    return status.message();
  };
  EXPECT_THAT(refusal({4, 6}, {3, 6}), HasSubstr("w.weight is (4, 6), its scales are (3, 6); needed as many sizes"));
  EXPECT_THAT(refusal({4, 6}, {4}), HasSubstr("its scales are (4)"));
  EXPECT_THAT(refusal({4, 6}, {0, 6}), HasSubstr("model.safetensors] w.weight is (4, 6), its scales are (0, 6)"));
  EXPECT_THAT(refusal({2, 2, 2, 2}, {1, 1, 1, 1}), HasSubstr("(2, 2, 2, 2)"));
  EXPECT_TRUE(tensors_.empty());
}

}  // namespace
}  // namespace colossus
