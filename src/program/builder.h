// Writes a program. The first error stays (see status()) and makes every later call do nothing, so that code that
// writes a model reads straight through.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "program/program.h"

namespace colossus {

class Builder {
 public:
  explicit Builder(std::string program_name) { program_.name = std::move(program_name); }
  // Goes on writing an existing program.
  explicit Builder(Program program);

  TensorId input(std::string name, Shape shape, DType dtype) {
    return declare(std::move(name), {std::move(shape), dtype}, Role::kInput);
  }
  TensorId parameter(std::string name, Shape shape, DType dtype = DType::kF32) {
    return declare(std::move(name), {std::move(shape), dtype}, Role::kParameter);
  }
  // A name already declared with the same type and role gives the same tensor (tied weights).
  TensorId declare(std::string name, TensorType type, Role role);
  // Elements [offset, offset + shape.num_elements()) of `base`, under a name of their own.
  TensorId view(std::string name, Shape shape, TensorId base, int64_t offset);

  // Appends an operation; its output types are inferred. The first output, or none if it has none.
  TensorId emit(Op op, std::initializer_list<TensorId> inputs, std::string_view output_name = {}) {
    return emit(std::move(op), std::vector<TensorId>(inputs), output_name);
  }
  TensorId emit(Op op, std::vector<TensorId> inputs, std::string_view output_name = {});
  // All outputs of the operation written last.
  const std::vector<TensorId>& last_outputs() const { return last_outputs_; }

  void mark_output(TensorId id, std::string_view name = {});  // kept after the run, under this name

  // Scopes name the part of the model being written; phases its part in the step.
  const std::string& scope() const { return scope_; }
  void set_scope(std::string scope) { scope_ = std::move(scope); }
  void set_phase(Phase phase) { phase_ = phase; }

  const Tensor& tensor(TensorId id) const { return program_.tensor(id); }
  const Shape& shape(TensorId id) const { return program_.tensor(id).type.shape; }
  const Program& program() const { return program_; }
  const Status& status() const { return status_; }
  void fail(Status status) {
    if (status_.ok()) status_ = std::move(status);
  }
  Result<Program> finish();  // the program, or the first error

 private:
  TensorId append_tensor(Tensor tensor);
  std::string unique_name(std::string_view wanted);

  Program program_;
  Status status_;
  std::string scope_;
  Phase phase_ = Phase::kForward;
  std::vector<TensorId> last_outputs_;
  std::unordered_map<std::string, int32_t> by_name_;
  std::unordered_map<std::string, int32_t> name_uses_;
};

// Writes what a rank does of an operation (a rule's last line); its outputs lie as said, those left out as none.
void emit_part(Partition& p, Op op, std::vector<TensorId> inputs, std::initializer_list<Placement> outputs);

// A scope within the current one, for as long as the object lives.
class Scope {
 public:
  Scope(Builder& builder, std::string_view name) : builder_(builder), outer_(builder.scope()) {
    builder_.set_scope(outer_.empty() ? std::string(name) : outer_ + "." + std::string(name));
  }
  ~Scope() { builder_.set_scope(outer_); }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;

 private:
  Builder& builder_;
  std::string outer_;
};

}  // namespace colossus
