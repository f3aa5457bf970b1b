// A value for each of 0..size-1, kept as runs of equal values: a hundred thousand ranks that do the same cost as much
// as one. Assigning a range costs the runs it covers and a logarithm.
#pragma once

#include <iterator>
#include <map>
#include <utility>

#include "base/check.h"

namespace colossus {

template <class T>
class RangeMap {
 public:
  RangeMap() = default;
  RangeMap(int size, const T& value) { resize(size, value); }

  int size() const { return size_; }
  int num_runs() const { return static_cast<int>(runs_.size()); }

  const T& at(int index) const {
    DCHECK(index >= 0 && index < size_);
    return std::prev(runs_.upper_bound(index))->second;
  }

  void assign(int begin, int end, const T& value) {
    if (begin == end) return;
    split(begin);
    split(end);
    runs_.erase(runs_.lower_bound(begin), runs_.lower_bound(end));
    runs_.emplace(begin, value);
    join(begin);
    join(end);
  }

  // change(T&) once for each run within the range.
  template <class Change>
  void update(int begin, int end, const Change& change) {
    if (begin == end) return;
    split(begin);
    split(end);
    for (auto run = runs_.find(begin); run != runs_.end() && run->first < end;) {
      change(run->second);
      run = join(run->first);
      ++run;
    }
    join(end);
  }

  // see(begin, end, value) for the runs, cut to the range, in order.
  template <class See>
  void for_each(int begin, int end, const See& see) const {
    if (begin == end) return;
    for (auto run = std::prev(runs_.upper_bound(begin)); run != runs_.end() && run->first < end; ++run) {
      const auto next = std::next(run);
      see(std::max(begin, run->first), std::min(end, next == runs_.end() ? size_ : next->first), run->second);
    }
  }
  template <class See>
  void for_each(const See& see) const {
    for_each(0, size_, see);
  }

  // Gives the values of count indices from `from` on to those from `to` on.
  void copy(int from, int to, int count) {
    std::map<int, T> taken;
    for_each(from, from + count, [&](int begin, int end, const T& value) { taken.emplace(begin, value); });
    for (auto run = taken.begin(); run != taken.end(); ++run) {
      const auto next = std::next(run);
      assign(run->first - from + to, (next == taken.end() ? from + count : next->first) - from + to, run->second);
    }
  }

  // New indices get `value`.
  void resize(int size, const T& value) {
    const int before = std::exchange(size_, size);
    runs_.erase(runs_.lower_bound(size), runs_.end());
    if (size > before) assign(before, size, value);
  }

 private:
  // A run begins at `index`.
  void split(int index) {
    if (index >= size_ || runs_.empty()) return;
    const auto after = runs_.upper_bound(index);
    if (after == runs_.begin()) return;
    const auto run = std::prev(after);
    if (run->first != index) runs_.emplace_hint(after, index, run->second);
  }

  // Where the run that begins at `index` went, which may be into the one before it.
  typename std::map<int, T>::iterator join(int index) {
    const auto run = runs_.find(index);
    if (run == runs_.end() || run == runs_.begin()) return run;
    const auto before = std::prev(run);
    if (!(before->second == run->second)) return run;
    runs_.erase(run);
    return before;
  }

  int size_ = 0;
  std::map<int, T> runs_;  // by their first index
};

}  // namespace colossus
