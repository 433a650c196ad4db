namespace Backend.Toolkit.TimeoutBudgets.Tests;

public sealed class TelemetryTests
{
    private readonly CountingTimeProvider _time = new();
    private readonly string _name = "telemetry-" + Guid.NewGuid();

    [Fact]
    public async Task An_expiry_is_counted_by_name_and_a_success_is_not()
    {
        using var metrics = new Measurements(_name);
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = _name, Total = TimeSpan.FromSeconds(1) }, _time);
        await policy.ExecuteAsync(_ => ValueTask.CompletedTask, CancellationToken.None);
        Task expiring = policy.ExecuteAsync(token => Task.Delay(Timeout.InfiniteTimeSpan, _time.Fake, token), CancellationToken.None).AsTask();

        _time.Fake.Advance(TimeSpan.FromSeconds(1));

        await expiring.Awaiting(e => e.Soon()).Should().ThrowExactlyAsync<TimeoutBudgetExceededException>();
        metrics.Sum("backend.toolkit.timeout_budget.exceeded").Should().Be(1);
        metrics.Sum("backend.toolkit.timeout_budget.abandoned").Should().Be(0);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task Telemetry_reads_no_clock_whether_somebody_listens_or_not(bool listens)
    {
        using Measurements? metrics = listens ? new Measurements(_name) : null;
        var policy = new TimeoutBudgetPolicy(new TimeoutBudgetOptions { Name = _name, Total = TimeSpan.FromSeconds(1) }, _time);
        using (TimeoutBudget.Start(TimeSpan.FromSeconds(0.5), "", _time))
        {
            // The timer stands before the deadline of the policy from now on, so arming it is not counted below.
        }

        int before = _time.Reads;

        await policy.ExecuteAsync(_ => ValueTask.CompletedTask, CancellationToken.None);

        (_time.Reads - before).Should().Be(1, "the start of the scope is the only thing that reads the clock");
    }
}
