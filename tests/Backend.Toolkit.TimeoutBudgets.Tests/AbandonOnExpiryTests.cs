using System.Diagnostics.Metrics;
using System.Runtime.CompilerServices;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class AbandonOnExpiryTests
{
    private readonly FakeTimeProvider _time = new();
    private readonly string _name = "abandon-" + Guid.NewGuid();

    private TimeoutBudgetPolicy Policy() =>
        new(new TimeoutBudgetOptions { Name = _name, Total = TimeSpan.FromSeconds(10), AbandonOnExpiry = true }, _time);

    [Fact]
    public async Task An_action_that_ignores_its_token_is_left_behind_on_time_and_counted()
    {
        using var metrics = new Measurements(_name);
        var never = new TaskCompletionSource<int>();
        Task<int> execution = Policy().ExecuteAsync(_ => never.Task, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(10));
        TimeoutBudgetExceededException thrown = (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which;

        thrown.Name.Should().Be(_name);
        never.Task.IsCompleted.Should().BeFalse();
        metrics.Sum("backend.toolkit.timeout_budget.abandoned").Should().Be(1);
        metrics.Sum("backend.toolkit.timeout_budget.exceeded").Should().Be(1);
    }

    [Fact]
    public void The_late_failure_of_abandoned_work_is_observed()
    {
        // Arrange: whatever nobody looks at is raised when its task is finalised.
        var marker = new InvalidOperationException(_name);
        int unobserved = 0;
        void Count(object? sender, UnobservedTaskExceptionEventArgs e)
        {
            if (e.Exception.InnerExceptions.Contains(marker))
            {
                Interlocked.Increment(ref unobserved);
            }
        }

        TaskScheduler.UnobservedTaskException += Count;

        (WeakReference late, bool abandoned) = AbandonAndFail(marker);
        for (int i = 0; i < 10 && late.IsAlive; i++)
        {
            GC.Collect();
            GC.WaitForPendingFinalizers();
        }

        TaskScheduler.UnobservedTaskException -= Count;
        late.IsAlive.Should().BeFalse("else nothing is shown");
        abandoned.Should().BeTrue();
        unobserved.Should().Be(0);
    }

    [Fact]
    public async Task The_callers_cancellation_also_returns_at_once()
    {
        using var metrics = new Measurements(_name);
        using var caller = new CancellationTokenSource();
        var never = new TaskCompletionSource<int>();
        Task<int> execution = Policy().ExecuteAsync(_ => never.Task, caller.Token).AsTask();

        caller.Cancel();

        (await execution.Awaiting(e => e.Soon()).Should().ThrowAsync<OperationCanceledException>()).Which.CancellationToken.Should().Be(caller.Token);
        metrics.Sum("backend.toolkit.timeout_budget.abandoned").Should().Be(1);
        metrics.Sum("backend.toolkit.timeout_budget.exceeded").Should().Be(0);
    }

    [Fact]
    public void Whoever_cancels_does_not_run_the_callers_code()
    {
        using var caller = new CancellationTokenSource();
        var never = new TaskCompletionSource<int>();
        int continued = 0;
        Policy().ExecuteAsync(_ => never.Task, caller.Token).AsTask().ContinueWith(
            _ => Volatile.Write(ref continued, Environment.CurrentManagedThreadId),
            CancellationToken.None, TaskContinuationOptions.ExecuteSynchronously, TaskScheduler.Default);

        caller.Cancel();
        Eventually.BeTrue(() => Volatile.Read(ref continued) != 0, "the caller goes on");

        continued.Should().NotBe(Environment.CurrentManagedThreadId, "a callback of the action may wait behind this one");
    }

    [Fact]
    public async Task The_end_of_an_outer_budget_also_returns_at_once_and_is_the_outer_ones()
    {
        var never = new TaskCompletionSource<int>();
        var outer = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = "outer", Total = TimeSpan.FromSeconds(3) }, _time);
        TimeoutBudgetPolicy inner = Policy();
        Task<int> execution = outer.ExecuteAsync(token => inner.ExecuteAsync(_ => never.Task, token), CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(3));

        (await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>()).Which.Name.Should().Be("outer");
    }

    [Fact]
    public async Task Abandoned_work_sees_no_budget_any_more()
    {
        var go = new TaskCompletionSource();
        var seen = new TaskCompletionSource<TimeoutBudget?>();
        Task execution = Policy().ExecuteAsync(
            async Task (_) =>
            {
                await go.Task;
                seen.SetResult(TimeoutBudget.Current);
            }, CancellationToken.None).AsTask();
        _time.Advance(TimeSpan.FromSeconds(10));
        await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();

        go.SetResult();

        (await seen.Task.Soon()).Should().BeNull();
    }

    [Fact]
    public async Task Results_and_failures_in_time_come_out_as_they_are()
    {
        TimeoutBudgetPolicy policy = Policy();
        var hold = new TaskCompletionSource<int>();
        var failing = new TaskCompletionSource<int>();
        var failure = new InvalidOperationException("as it was");

        int atOnce = await policy.ExecuteAsync(_ => new ValueTask<int>(1), CancellationToken.None);
        Task<int> later = policy.ExecuteAsync(_ => hold.Task, CancellationToken.None).AsTask();
        Task<int> failed = policy.ExecuteAsync(_ => failing.Task, CancellationToken.None).AsTask();
        hold.SetResult(2);
        failing.SetException(failure);

        atOnce.Should().Be(1);
        (await later.Soon()).Should().Be(2);
        (await failed.Awaiting(f => f.Soon()).Should().ThrowExactlyAsync<InvalidOperationException>()).Which.Should().BeSameAs(failure);
    }

    [Fact]
    public async Task A_callback_that_blocks_does_not_keep_the_caller_waiting()
    {
        using var release = new ManualResetEventSlim();
        var never = new TaskCompletionSource<int>();
        Task<int> execution = Policy().ExecuteAsync(
            token =>
            {
                token.Register(release.Wait);
                return never.Task;
            }, CancellationToken.None).AsTask();

        _time.Advance(TimeSpan.FromSeconds(10));

        await execution.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
        release.Set();
    }

    /// <summary>On a thread of its own, so that no frame and no register refers to the task that is to be collected.</summary>
    [MethodImpl(MethodImplOptions.NoInlining)]
    private (WeakReference Late, bool Abandoned) AbandonAndFail(Exception failure)
    {
        WeakReference? reference = null;
        bool abandoned = false;
        var thread = new Thread(() =>
        {
            var late = new TaskCompletionSource<int>();
            Task<int> execution = Policy().ExecuteAsync(_ => late.Task, CancellationToken.None).AsTask();
            _time.Advance(TimeSpan.FromSeconds(10));
            abandoned = SpinWait.SpinUntil(() => execution.IsFaulted, TimeSpan.FromSeconds(10)) && execution.Exception!.InnerException is TimeoutBudgetExceededException;
            late.SetException(failure);
            reference = new WeakReference(late.Task);
        });
        thread.UnsafeStart();
        thread.Join();
        return (reference!, abandoned);
    }
}

/// <summary>Listens to the counters of this package, for one name.</summary>
internal sealed class Measurements : IDisposable
{
    private readonly MeterListener _listener = new();
    private readonly System.Collections.Concurrent.ConcurrentQueue<(string Instrument, long Value)> _values = new();

    public Measurements(string name)
    {
        _listener.InstrumentPublished = static (instrument, listener) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.TimeoutBudgets")
            {
                listener.EnableMeasurementEvents(instrument);
            }
        };
        _listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            if (tags.Length == 1 && tags[0].Key == "name" && Equals(tags[0].Value, name))
            {
                _values.Enqueue((instrument.Name, value));
            }
        });
        _listener.Start();
    }

    public long Sum(string instrument) => _values.Where(value => value.Instrument == instrument).Sum(value => value.Value);

    public void Dispose() => _listener.Dispose();
}
