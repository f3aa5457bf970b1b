#include "node_check/gpu_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "io/file_system.h"

namespace colossus {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const std::string kSaved = COLOSSUS_SOURCE_DIR "/../shared/data/gpu/";

// As `nvidia-smi -q` writes it; `edit` is laid over: {"Remapped Rows/Pending", "Yes"} and so on.
std::string query_of(const std::string& pending = "No", const std::string& width = "16x",
                     const std::string& uncorrected = "0", const std::string& brake = "Not Active",
                     const std::string& recovery = "None", const std::string& fabric = "Completed") {
  return fmt::format(R"(
==============NVSMI LOG==============

Timestamp                                 : Tue Jul 14 08:12:38 2026
Driver Version                            : 590.48.01
Attached GPUs                             : 1
GPU 00000000:00:09.0
    Product Name                          : NVIDIA H100 80GB HBM3
    GPU Recovery Action                   : {}
    PCI
        Bus Id                            : 00000000:00:09.0
        GPU Link Info
            PCIe Generation
                Max                       : 5
                Current                   : 5
            Link Width
                Max                       : 16x
                Current                   : {}
    Performance State                     : P0
    Clocks Event Reasons
        Idle                              : Active
        HW Slowdown                       : {}
            HW Thermal Slowdown           : Not Active
            HW Power Brake Slowdown       : {}
        SW Thermal Slowdown               : Not Active
    FB Memory Usage
        Total                             : 81559 MiB
    ECC Mode
        Current                           : Enabled
    ECC Errors
        Volatile
            SRAM Correctable              : 0
            SRAM Uncorrectable Parity     : 0
            SRAM Uncorrectable SEC-DED    : {}
            DRAM Correctable              : 3
            DRAM Uncorrectable            : 0
        Aggregate
            DRAM Uncorrectable            : 4
            SRAM Threshold Exceeded       : No
    Remapped Rows
        Uncorrectable Error               : 0
        Pending                           : {}
        Remapping Failure Occurred        : No
    Temperature
        GPU Current Temp                  : 41 C
        GPU T.Limit Temp                  : 46 C
    Fabric
        State                             : {}
        Status                            : Success
        Health
            Summary                       : N/A
    Processes                             : None
)",
                     recovery, width, brake, brake, uncorrected, pending, fabric);
}

CheckResult gpu_0(const std::string& query) {
  GpuListings listings;
  CHECK(add_listing(query, listings).ok());
  const auto results = judge_gpus(listings, {});
  CHECK(results.size() == 2 && results[1].name == "gpu_0");
  return results[1];
}

TEST(NvidiaSmi, QueryIsRead) {
  const auto gpus = parse_smi_query(query_of());
  ASSERT_TRUE(gpus.ok()) << gpus.status().message();
  ASSERT_EQ(gpus->size(), 1u);
  const GpuState& gpu = gpus->front();
  EXPECT_EQ(gpu.name, "NVIDIA H100 80GB HBM3");
  EXPECT_EQ(gpu.bus_id, "00000000:00:09.0");
  EXPECT_EQ(gpu.driver, "590.48.01");
  EXPECT_EQ(gpu.memory_mib, 81559);
  EXPECT_EQ(gpu.pcie_generation, 5);
  EXPECT_EQ(gpu.pcie_width, 16);
  EXPECT_EQ(gpu.ecc_enabled, true);
  EXPECT_EQ(gpu.ecc_corrected, 3);
  EXPECT_EQ(gpu.ecc_uncorrected, 0);
  EXPECT_EQ(gpu.ecc_uncorrected_ever, 4);
  EXPECT_EQ(gpu.remap_pending, false);
  EXPECT_EQ(gpu.temperature_c, 41);
  EXPECT_EQ(gpu.fabric_health, "");  // N/A
  EXPECT_EQ(gpu.retired_pages_pending, std::nullopt);
  EXPECT_FALSE(gpu.power_brake);
}

TEST(NvidiaSmi, FaultsOfAGpuAreJudged) {
  EXPECT_EQ(gpu_0(query_of()).verdict, Verdict::kPass);
  EXPECT_EQ(gpu_0(query_of("Yes")).verdict, Verdict::kBad);
  const CheckResult narrow = gpu_0(query_of("No", "8x"));
  EXPECT_EQ(narrow.verdict, Verdict::kSlow);
  EXPECT_THAT(narrow.message, AllOf(HasSubstr("8 of 16 lanes"), HasSubstr("00000000:00:09.0")));
  EXPECT_EQ(gpu_0(query_of("No", "16x", "2")).verdict, Verdict::kBad);
  const CheckResult braked = gpu_0(query_of("No", "16x", "0", "Active"));
  EXPECT_EQ(braked.verdict, Verdict::kSlow);
  EXPECT_THAT(braked.message, HasSubstr("power supplies"));
  EXPECT_EQ(gpu_0(query_of("No", "16x", "0", "Not Active", "Reset")).verdict, Verdict::kBad);
  EXPECT_EQ(gpu_0(query_of("No", "16x", "0", "Not Active", "None", "In Progress")).verdict, Verdict::kBad);
}

TEST(NvidiaSmi, CsvIsReadInAnyOrderOfFields) {
  const auto gpus = parse_smi_csv(
      "name, pcie.link.width.current, memory.total [MiB], remapped_rows.pending, clocks_throttle_reasons.hw_slowdown\n"
      "NVIDIA A100-SXM4-80GB, 8, 81920 MiB, Yes, Active\n"
      "NVIDIA A100-SXM4-80GB, 16, [N/A], [Not Supported], Not Active\n");
  ASSERT_TRUE(gpus.ok()) << gpus.status().message();
  ASSERT_EQ(gpus->size(), 2u);
  EXPECT_EQ((*gpus)[0].pcie_width, 8);
  EXPECT_EQ((*gpus)[0].memory_mib, 81920);
  EXPECT_EQ((*gpus)[0].remap_pending, true);
  EXPECT_TRUE((*gpus)[0].hardware_slowdown);
  EXPECT_EQ((*gpus)[1].memory_mib, std::nullopt);
  EXPECT_EQ((*gpus)[1].remap_pending, std::nullopt);
  EXPECT_FALSE(parse_smi_csv("a, b\n1\n").ok());
  EXPECT_FALSE(parse_smi_csv("a, b\n").ok());
}

TEST(NvidiaSmi, LinksThatDifferFromTheOthersAreFound) {
  const std::string topology =
      "\t\x1b[4mGPU0\tGPU1\tGPU2\tNIC0\tCPU Affinity\tNUMA Affinity\x1b[0m\n"
      "GPU0\t X \tNV18\tNV18\tPIX\t0-55\t0\n"
      "GPU1\tNV18\t X \tNV17\tSYS\t0-55\t0\n"
      "GPU2\tNV18\tNV17\t X \tSYS\t56-111\t1\n"
      "NIC0\tPIX\tSYS\tSYS\t X \t\t\n\nLegend:\n";
  GpuListings listings;
  ASSERT_TRUE(add_listing(query_of(), listings).ok());
  ASSERT_TRUE(add_listing(topology, listings).ok());
  ASSERT_TRUE(listings.topology);
  EXPECT_THAT(listings.topology->names, ElementsAre("GPU0", "GPU1", "GPU2", "NIC0"));
  EXPECT_EQ(listings.topology->link("GPU2", "GPU0"), "NV18");
  EXPECT_EQ(listings.topology->link("NIC0", "GPU0"), "PIX");
  EXPECT_EQ(listings.topology->link("NIC0", "GPU7"), std::nullopt);
  ASSERT_TRUE(add_listing("GPU 0: A (UUID: GPU-1)\n\t Link 0: 26.562 GB/s\n\t Link 1: 26.562 GB/s\n"
                          "GPU 1: A (UUID: GPU-2)\n\t Link 0: 26.562 GB/s\n\t Link 1: <inactive>\n",
                          listings)
                  .ok());
  const auto results = judge_gpus(listings, {});
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[2].name, "nvlinks");
  EXPECT_EQ(results[2].verdict, Verdict::kBad);
  EXPECT_THAT(results[2].message, HasSubstr("GPU 1 has 1 of 2"));
  EXPECT_EQ(results[3].verdict, Verdict::kBad);
  EXPECT_THAT(results[3].message, HasSubstr("GPU1-GPU2 are linked by NV17"));
}

TEST(NvidiaSmi, FewerGpusThanExpectedAreBad) {
  GpuListings listings;
  ASSERT_TRUE(add_listing(query_of(), listings).ok());
  Expected expected;
  expected.gpus = 1;
  EXPECT_EQ(judge_gpus(listings, expected)[0].verdict, Verdict::kPass);
  expected.gpus = 8;
  EXPECT_EQ(judge_gpus(listings, expected)[0].verdict, Verdict::kBad);
  expected = {};
  expected.gpu_memory_mib = 143771;
  EXPECT_EQ(judge_gpus(listings, expected)[0].verdict, Verdict::kBad);
}

TEST(NvidiaSmi, OtherTextsAreRefused) {
  GpuListings listings;
  for (const char* text : {"", "\n\n", "hello", "NVSMI LOG", "{\"a\": [1, 2]}", "\tGPU0\tGPU1\nGPU0\t X \n",
                           "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."})
    EXPECT_FALSE(add_listing(text, listings).ok()) << text;
}

// A capture of one GPU has all listings, each behind its command.
std::string section(const std::string& capture, const std::string& command) {
  const size_t at = capture.find("# $ nvidia-smi " + command);
  CHECK(at != std::string::npos, command.c_str());
  const size_t begin = capture.find("####\n", at) + 5;
  return capture.substr(begin, capture.find("\n####", begin) - begin);
}

TEST(NvidiaSmi, RealCaptures) {
  if (!std::filesystem::exists(kSaved)) GTEST_SKIP() << "needs ../shared";
  for (const auto& [file, name, memory] :
       {std::tuple("h100-80gb-hbm3", "NVIDIA H100 80GB HBM3", 81559), std::tuple("h200", "NVIDIA H200", 143771)}) {
    const auto capture =
        read_file(local_files(), fmt::format("{}nvidia_smi/linux-x86_64__nvidia-{}__590.48.01.txt", kSaved, file));
    ASSERT_TRUE(capture.ok());
    GpuListings listings;
    for (const char* command : {"topo -m", "nvlink -s", "-q\n"})
      ASSERT_TRUE(add_listing(section(*capture, command), listings).ok()) << command;
    ASSERT_EQ(listings.gpus.size(), 1u);
    EXPECT_THAT(listings.topology->names, ElementsAre("GPU0"));
    EXPECT_EQ(listings.nvlinks->speeds[0].size(), 18u);
    for (const CheckResult& result : judge_gpus(listings, {}))
      EXPECT_EQ(result.verdict, Verdict::kPass) << result.name << ": " << result.message;
    // Two formats of one state.
    const auto csv = parse_smi_csv(section(*capture, "--query-gpu"));
    ASSERT_TRUE(csv.ok()) << csv.status().message();
    const GpuState &a = listings.gpus[0], &b = (*csv)[0];
    EXPECT_EQ(a.name, name);
    EXPECT_EQ(a.memory_mib, memory);
    EXPECT_EQ(a.ecc_uncorrected, 0);
    EXPECT_EQ(a.recovery_action, "None");
    EXPECT_EQ(a.fabric_state, "Completed");
    EXPECT_EQ(std::tie(a.bus_id, a.name, a.uuid, a.driver, a.memory_mib, a.temperature_c, a.degrees_to_limit),
              std::tie(b.bus_id, b.name, b.uuid, b.driver, b.memory_mib, b.temperature_c, b.degrees_to_limit));
    EXPECT_EQ(std::tie(a.pcie_generation, a.pcie_generation_max, a.pcie_width, a.pcie_width_max, a.performance_state),
              std::tie(b.pcie_generation, b.pcie_generation_max, b.pcie_width, b.pcie_width_max, b.performance_state));
    EXPECT_EQ(std::tie(a.ecc_enabled, a.ecc_corrected, a.ecc_uncorrected, a.ecc_uncorrected_ever, a.remap_pending,
                       a.remap_failed, a.rows_remapped, a.banks_without_spare_rows, a.sram_threshold_exceeded),
              std::tie(b.ecc_enabled, b.ecc_corrected, b.ecc_uncorrected, b.ecc_uncorrected_ever, b.remap_pending,
                       b.remap_failed, b.rows_remapped, b.banks_without_spare_rows, b.sram_threshold_exceeded));
    EXPECT_EQ(std::tie(a.recovery_action, a.fabric_state, a.fabric_status),
              std::tie(b.recovery_action, b.fabric_state, b.fabric_status));
  }
  const auto a100 = read_file(local_files(), kSaved + "gpud/nvidia-smi.nvlink.status.a100");
  ASSERT_TRUE(a100.ok());
  const auto nvlinks = parse_smi_nvlinks(*a100);
  ASSERT_TRUE(nvlinks.ok());
  EXPECT_EQ(nvlinks->speeds.size(), 8u);
  for (const auto& links : nvlinks->speeds) EXPECT_EQ(links, std::vector<double>(12, 25.0));
}

}  // namespace
}  // namespace colossus
