#include "plan/piece_program.h"

#include "device/cpu/cpu_prepare.h"
#include "program/memory_plan.h"

namespace colossus {

void PieceProgram::add_work(const KernelWork& work) {
  works.works.push_back(work);
  works.waits.emplace_back();
  works.outlives_run.push_back(0);
}

int64_t processor_workspace(const Program& program, const Operation& operation) {
  return prepare_operation(program, operation, 1).workspace_bytes;
}

int64_t exchange_workspace(const Program& program, const Operation& operation) {
  return group_of(operation.op) ? processor_workspace(program, operation) : 0;
}

int64_t arena_bytes(const Program& program, const Workspace& workspace) {
  return plan_memory(program, [&](int at) { return workspace(program, program.operations[static_cast<size_t>(at)]); })
      .arena_bytes;
}

PieceProgram piece_program(const Program& program, const Workspace& workspace) {
  if (program.operations.empty()) return {};
  return {playable(program), arena_bytes(program, workspace)};
}

}  // namespace colossus
