// The time of a step: small programs against whole ones, one rank against all, and what must hold whatever the numbers.

#include "plan/step_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "io/config.h"
#include "plan/calibration.h"
#include "plan/memory.h"
#include "plan/published_run.h"
#include "plan/ready_files.h"
#include "train/rank_model.h"

namespace colossus {
namespace {

const GpuSpec kGpu = {.name = "test",
                      .fp32_tflops = 60,
                      .bf16_tflops = 1000,
                      .fp8_tflops = 2000,
                      .fp4_tflops = 0,
                      .memory_gb = 80,
                      .memory_gb_per_second = 3000,
                      .num_units = 128};

ModelConfig grok_of(int64_t layers) {
  ModelConfig model;
  model.family = Family::kGrok1;
  model.num_layers = layers;
  model.width = 1024;
  model.num_heads = 8;
  model.num_kv_heads = 8;
  model.head_dim = 128;
  model.num_experts = 8;
  model.expert_width = 4096;
  model.vocab_size = 32768;
  model.context = 2048;
  model.tie_embeddings = false;
  return model;
}

Layout layout_of(const MeshConfig& mesh) {
  Layout layout;
  layout.mesh = mesh;
  layout.tokens = 2048;
  layout.batch = 16 * mesh.data * mesh.shard;
  return layout;
}

double price(RankGroup, Exchange, double bytes) { return 1e-5 + bytes / 50e9; }

StepPrices prices_of(const KernelTimes& kernels) {
  return {.kernels = &kernels, .communication = price, .stack = {}, .straggling = 0};
}

TEST(StepTime, APieceOfManyLayersFollowsFromOneAndTwo) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  const Layout layout = layout_of({.shard = 4, .tensor = 2, .expert = 4});
  const auto pieces = write_rank_pieces(grok_of(7), layout);
  ASSERT_TRUE(pieces.ok()) << pieces.status().message();
  const PassTimes passes = time_passes(layout, *pieces, prices_of(kernels));
  // The program of all seven layers, played as a whole.
  RunConfig run;
  run.model = grok_of(7);
  run.mesh = layout.mesh;
  run.train.microbatch = layout.microbatch;
  run.train.tokens = layout.tokens;
  Ranks ranks{.mesh = Mesh(run.mesh), .rank = 0};
  ranks.members = groups_of(ranks.mesh, 0);
  const auto whole = write_rank_model(run, DType::kBF16, ranks);
  ASSERT_TRUE(whole.ok()) << whole.status().message();
  const PlayedProgram played = play(playable(whole->microbatch), [&](const KernelWork& work) {
    return work.kind == WorkKind::kCommunication ? price(work.group, work.exchange, work.bytes_sent)
                                                 : kernels.seconds(work);
  });
  const auto& of = passes.of[static_cast<size_t>(PieceKind::kWhole)][0];
  EXPECT_NEAR((of[0].seconds + 6 * (of[1].seconds - of[0].seconds)) / played.seconds, 1, 1e-3);
}

// All 512 ranks of a stage issue the same operations of the same sizes: one of them stands for all.
TEST(StepTime, EveryRankOfAStageTakesAsLong) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  RunConfig run;
  run.model = grok_of(1);
  run.mesh = {.data = 4, .shard = 8, .context = 2, .tensor = 8, .expert = 8};
  run.train.tokens = 2048;
  run.train.microbatch = 1;
  run.train.reduction_leaves = 32;
  ASSERT_EQ(run.mesh.num_ranks(), 512);
  ASSERT_TRUE(check_layout(run).ok()) << check_layout(run).message();
  double first = 0, sent = 0;
  for (int64_t rank = 0; rank < 512; ++rank) {
    Ranks ranks{.mesh = Mesh(run.mesh), .rank = rank};
    ranks.members = groups_of(ranks.mesh, rank);
    const auto model = write_rank_model(run, DType::kBF16, ranks);
    ASSERT_TRUE(model.ok()) << model.status().message();
    double bytes = 0;
    const PlayedProgram played = play(playable(model->microbatch), [&](const KernelWork& work) {
      bytes += work.bytes_sent;
      return work.kind == WorkKind::kCommunication ? price(work.group, work.exchange, work.bytes_sent)
                                                   : kernels.seconds(work);
    });
    if (rank == 0) first = played.seconds, sent = bytes;
    EXPECT_DOUBLE_EQ(played.seconds, first) << rank;
    EXPECT_DOUBLE_EQ(bytes, sent) << rank;
  }
  EXPECT_GT(sent, 0);
}

TEST(StepTime, PartsAddUpAndCommunicationOnlyCosts) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  for (const MeshConfig& mesh :
       {MeshConfig{.shard = 8}, MeshConfig{.shard = 4, .tensor = 4, .expert = 8},
        MeshConfig{.shard = 2, .context = 2, .tensor = 2, .expert = 4, .pipeline = 4},
        MeshConfig{.shard = 2, .pipeline = 4, .chunks = 2, .schedule = PipelineScheduleKind::kInterleaved},
        MeshConfig{.shard = 2, .pipeline = 4, .schedule = PipelineScheduleKind::kZeroBubble}}) {
    SCOPED_TRACE(print_config(mesh));
    const Layout layout = layout_of(mesh);
    const auto pieces = write_rank_pieces(grok_of(16), layout);
    ASSERT_TRUE(pieces.ok()) << pieces.status().message();
    StepPrices prices = prices_of(kernels);
    const auto time = time_of_step(grok_of(16), layout, *pieces, prices);
    ASSERT_TRUE(time.ok()) << time.status().message();
    EXPECT_NEAR(time->compute + time->exposed_tensor + time->exposed_context + time->exposed_expert + time->bubble +
                    time->exposed_data + time->update + time->straggling,
                time->seconds, 1e-9 * time->seconds);
    for (const double part : {time->compute, time->bubble, time->exposed_data, time->update}) EXPECT_GE(part, 0);
    prices.communication = [](RankGroup, Exchange, double) { return 0.0; };
    const auto free = time_of_step(grok_of(16), layout, *pieces, prices);
    EXPECT_LT(free->seconds, time->seconds);
    EXPECT_DOUBLE_EQ(free->compute, time->compute);
    prices.straggling = 0.1;
    EXPECT_NEAR(time_of_step(grok_of(16), layout, *pieces, prices)->seconds, 1.1 * free->seconds, 1e-9);
  }
}

// Our own programs exchange gradients beside the last backward pass, and parameters with nothing beside it.
TEST(StepTime, WhatIsExchangedIsHiddenByThoseThatDo) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  const Layout layout = layout_of({.shard = 8});
  StepPrices prices = prices_of(kernels);
  const auto waited_for = [&](std::optional<double> overlap) {
    prices.stack.data_overlap = overlap;
    const auto pieces = write_rank_pieces(grok_of(4), layout, prices.stack);
    return time_of_step(grok_of(4), layout, *pieces, prices)->exposed_data;
  };
  const double own = waited_for({}), none = waited_for(0), all = waited_for(1);
  EXPECT_LT(all, none);
  EXPECT_LT(own, 0.95 * none);
  const ExchangeOverlap overlap = exchange_overlap({}, layout.mesh);
  EXPECT_EQ(overlap.gradients, 1);
  EXPECT_EQ(overlap.parameters, 0);
}

// ZeRO 2 sends the gradients of each microbatch; of one microbatch's as many bytes as ZeRO 1 sends of a step, beside
// the passes.
TEST(StepTime, ZeroTwoExchangesOnceAMicrobatch) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  const StepPrices prices = prices_of(kernels);
  const auto waited_for = [&](int64_t zero_stage, int64_t microbatches) {
    Layout layout = layout_of({.shard = 8, .zero_stage = zero_stage});
    layout.batch = 8 * microbatches;
    const auto pieces = write_rank_pieces(grok_of(4), layout);
    return time_of_step(grok_of(4), layout, *pieces, prices)->exposed_data;
  };
  EXPECT_NEAR(waited_for(2, 1) / waited_for(1, 1), 1, 0.05);
  EXPECT_GT(waited_for(2, 16), waited_for(1, 16));
  EXPECT_DOUBLE_EQ(waited_for(1, 16), waited_for(1, 1));
  EXPECT_GT(waited_for(3, 16), waited_for(2, 16));
}

// Ranks that share cores take turns: twice the ranks on the same cores, each with as much to do, take twice as long;
// and what a rank sends beside its work is work of its core.
TEST(StepTime, RanksShareCoresInTurns) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  StepPrices prices = prices_of(kernels);
  const auto time_of = [&](const MeshConfig& mesh, int64_t cores) {
    const Layout layout = layout_of(mesh);
    const auto pieces = write_rank_pieces(grok_of(8), layout);
    prices.cores = cores;
    return *time_of_step(grok_of(8), layout, *pieces, prices);
  };
  const StepTime alone = time_of({.data = 4}, 0), four = time_of({.data = 4}, 4), two = time_of({.data = 4}, 2);
  EXPECT_NEAR(two.seconds / four.seconds, 2, 0.1);
  EXPECT_GT(two.waiting_for_cores, 0.45 * two.seconds);
  EXPECT_LT(four.seconds, 1.05 * alone.seconds);
  // Of a pipeline on one core no stage waits for another: all have to wait for the core.
  const StepTime pipeline = time_of({.pipeline = 4}, 0), shared = time_of({.pipeline = 4}, 1);
  EXPECT_GT(pipeline.bubble, 0.1 * pipeline.seconds);
  EXPECT_GT(shared.seconds, 3 * pipeline.seconds);
  EXPECT_LT(shared.seconds, 4 * pipeline.seconds);
  const StepTime zero = time_of({.shard = 4, .zero_stage = 3}, 4);
  EXPECT_GT(zero.waiting_for_cores, 0) << "what is gathered beside the passes is not free";
}

// Narayanan et al. 2021: of m microbatches on p stages that are alike, (p - 1) are waited for.
TEST(StepTime, ThePipelineHasItsBubble) {
  const KernelTimes kernels(kGpu, {.launch_us = 0}, ProductType::kBF16);
  ModelConfig model = grok_of(64);
  model.vocab_size = 128;  // so that the ends weigh next to nothing
  const Layout layout = layout_of({.pipeline = 8});
  const auto pieces = write_rank_pieces(model, layout);
  ASSERT_TRUE(pieces.ok());
  StepPrices prices = prices_of(kernels);
  prices.communication = [](RankGroup, Exchange, double) { return 0.0; };
  const auto time = time_of_step(model, layout, *pieces, prices);
  EXPECT_NEAR(time->bubble / time->compute, 7.0 / 16, 0.01);
  Layout longer = layout;
  longer.batch *= 64;  // the middle of a long schedule is not played, but counted
  EXPECT_NEAR(time_of_step(model, longer, *pieces, prices)->bubble / time->bubble, 1, 0.01);
}

// With loads that differ the fullest rank's products are waited for; what other software does around routing and the
// loss only costs; and rows that an expert's ranks hand on cross the network once.
TEST(StepTime, RecipesTurnOnWhatTheySay) {
  Calibration calibration;
  calibration.stacks = {{.source = "a release", .note = "", .gpu = "", .stack = {.name = "theirs", .data_overlap = 1}}};
  calibration.recipes = {{.recipe = "overlap", .expert_overlap = 0.5}, {.recipe = "graphs", .routing_kernels = 3}};
  PublishedRun run;
  run.source = "notes of a release";
  EXPECT_EQ(calibration.stack_of(run).expert_overlap, 0);
  run.recipe = "graphs; overlap";
  EXPECT_EQ(calibration.stack_of(run).expert_overlap, 0.5);
  EXPECT_EQ(calibration.stack_of(run).routing_kernels, 3);
  EXPECT_EQ(calibration.stack_of(run).routing_passes, 1) << "as the stack has it";
  run.source = "our own";
  EXPECT_TRUE(calibration.stack_of(run).is_own());
}

TEST(StepTime, OthersWaitForTheirHostComputeExpertsAgainAndExchangeBesideManyMicrobatches) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  const Layout layout =
      layout_of({.shard = 4, .expert = 4, .pipeline = 4, .chunks = 4, .schedule = PipelineScheduleKind::kInterleaved});
  StepPrices prices = prices_of(kernels);
  prices.stack.data_overlap = 1;
  const auto pieces = write_rank_pieces(grok_of(16), layout, prices.stack);
  ASSERT_TRUE(pieces.ok()) << pieces.status().message();
  const auto seconds = [&] { return time_of_step(grok_of(16), layout, *pieces, prices)->seconds; };
  const double plain = seconds();
  prices.experts_again = true;
  EXPECT_GT(seconds(), 1.1 * plain);
  prices.experts_again = false;
  prices.stack.layer_host_ms = 100;  // far more than a layer takes: a stage's four, for 16 microbatches
  EXPECT_GT(seconds(), 16 * 4 * 0.1);
  EXPECT_LT(seconds(), 1.5 * 16 * 4 * 0.1);
  prices.stack.layer_host_ms = 1e-6;
  EXPECT_DOUBLE_EQ(seconds(), plain);
  // More of a long exchange hides beside the rounds of four microbatches that chunks take in turns than beside one.
  prices.communication = [](RankGroup, Exchange exchange, double bytes) {
    return exchange == Exchange::kReduceScatter ? bytes / 1e8 : 0.0;
  };
  Layout one_chunk = layout;
  one_chunk.mesh.chunks = 1;
  one_chunk.mesh.schedule = PipelineScheduleKind::kOneForwardOneBackward;
  const auto whole = write_rank_pieces(grok_of(16), one_chunk, prices.stack);
  const double in_turns = time_of_step(grok_of(16), layout, *pieces, prices)->exposed_data;
  EXPECT_LT(in_turns, time_of_step(grok_of(16), one_chunk, *whole, prices)->exposed_data);
}

TEST(StepTime, SoftwareCostsWhatItSaysItDoes) {
  const KernelTimes kernels(kGpu, {}, ProductType::kBF16);
  const Layout layout = layout_of({.shard = 8, .expert = 8});
  const auto pieces = write_rank_pieces(grok_of(2), layout);
  ASSERT_TRUE(pieces.ok()) << pieces.status().message();
  const auto compute_with = [&](auto change) {
    StepPrices prices = prices_of(kernels);
    change(prices.stack);
    return time_of_step(grok_of(2), layout, *pieces, prices)->compute;
  };
  const double even = compute_with([](StackConfig&) {});
  const auto more = [&](auto change) { return compute_with(change) - even; };
  const double uneven = more([](StackConfig& stack) { stack.expert_deviation = 0.1; });
  EXPECT_GT(uneven, 0);
  EXPECT_LT(uneven, 0.1 * 1.5 * even) << "the largest of eight lies 1.4 deviations out";
  EXPECT_NEAR(more([](StackConfig& stack) { stack.expert_deviation = 0.2; }) / uneven, 2, 1e-6);
  // Two layers of four such operations for each microbatch.
  const double launches = static_cast<double>(2 * 4 * layout.num_microbatches());
  EXPECT_NEAR(more([](StackConfig& stack) { stack.routing_kernels = 11; }), 10 * launches * kernels.launch_seconds(),
              1e-9);
  EXPECT_GT(more([](StackConfig& stack) { stack.routing_passes = 2; }), 0);
  const double logits = 4.0 * 2048 * 32768 * static_cast<double>(layout.num_microbatches());
  EXPECT_GT(more([](StackConfig& stack) { stack.loss_passes = 1; }), logits / (kGpu.memory_gb_per_second * 1e9));
}

// Korthikanti et al. 2022, figure 1: GiB on each of 8 tensor ranks for parameters and optimizer, 22B to 1T.
TEST(Memory, StateIsThatOfPublishedRuns) {
  struct Case {
    int64_t layers, width, heads, pipeline, chunks;
    double gib;
  };
  for (const Case& c : {Case{48, 6144, 64, 1, 1, 45.56}, Case{96, 12288, 96, 8, 3, 45.56},
                        Case{105, 20480, 128, 35, 3, 31.64}, Case{128, 25600, 160, 64, 1, 32.96}}) {
    ModelConfig model;
    model.family = Family::kGpt2;
    model.num_layers = c.layers;
    model.width = c.width;
    model.num_heads = model.num_kv_heads = c.heads;
    model.head_dim = c.width / c.heads;
    model.ffn_width = 4 * c.width;
    model.num_experts = 0;
    model.vocab_size = 51200;
    model.context = 2048;
    model.biases = true;
    Layout layout = layout_of({.tensor = 8, .pipeline = c.pipeline, .chunks = c.chunks});
    if (c.chunks > 1) layout.mesh.schedule = PipelineScheduleKind::kInterleaved;
    const auto pieces = write_rank_pieces(model, layout);
    ASSERT_TRUE(pieces.ok()) << pieces.status().message();
    const auto memory = memory_of(model, layout, *pieces, kMixedState);
    ASSERT_TRUE(memory.ok());
    // The figures are of a stage without the ends.
    const double layers = static_cast<double>(c.layers) / static_cast<double>(c.pipeline);
    const double of_layers = 18 * layers * static_cast<double>(pieces->update->layer.all());
    EXPECT_NEAR(of_layers / (c.gib * 1073741824), 1, 0.005) << c.layers;
    EXPECT_NEAR(
        memory->weights + memory->gradients - of_layers / 3,
        6.0 * static_cast<double>(pieces->update->first.all() + (c.pipeline == 1 ? pieces->update->last.all() : 0)),
        1e6);
    EXPECT_GT(memory->optimizer, of_layers * 2 / 3 * 0.99);
  }
}

TEST(Memory, StagesOfZeroHoldLess) {
  const ModelConfig model = grok_of(8);
  RankMemory before;
  for (const int stage : {1, 2, 3}) {
    Layout layout = layout_of({.shard = 8});
    layout.mesh.zero_stage = stage;
    const auto pieces = write_rank_pieces(model, layout);
    ASSERT_TRUE(pieces.ok());
    const auto memory = memory_of(model, layout, *pieces, {});
    ASSERT_TRUE(memory.ok());
    if (stage > 1) {
      EXPECT_LT(memory->state(), before.state());
    }
    if (stage == 3) {
      EXPECT_NEAR(memory->weights / memory->optimizer, 0.5, 1e-9);
    }
    before = *memory;
  }
}

TEST(ReadyFiles, AreThereWhereNoFileIs) {
  EXPECT_TRUE(load_config<ModelConfig>(local_and_ready_files(), "configs/models/grok-1.toml").ok());
  EXPECT_EQ(read_file(local_and_ready_files(), "configs/none.toml").status().code(), ErrorCode::kNotFound);
  // Byte by byte what is in the source tree.
  for (const ReadyFile& file : ready_file_table())
    EXPECT_TRUE(*read_file(local_files(), std::string(COLOSSUS_SOURCE_DIR) + "/" + std::string(file.path)) == file.text)
        << file.path << ": ends of lines must be those of Unix";
}

}  // namespace
}  // namespace colossus
