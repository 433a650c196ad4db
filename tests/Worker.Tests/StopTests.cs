namespace Worker.Tests;

/// <summary>A worker that is told to stop finishes what it has in hand, or gives it back.</summary>
public sealed class StopTests : IDisposable
{
    private readonly DataFolder _folder = new(null);

    [Fact]
    public async Task A_stop_lets_what_is_in_hand_finish_and_takes_nothing_more()
    {
        await using var worker = new RunningWorker(_folder.Path, "--Worker:Grace=00:00:20", "--TimeoutBudgets:attempt:Total=00:10:00");
        await worker.PublishAsync(RunningWorker.Reminders(20));
        worker.Provider.Latency = TimeSpan.FromMilliseconds(500);

        await worker.StartAsync();
        await RealTime.UntilAsync(() => worker.Provider.Calls >= 2, "messages are in hand");
        await worker.StopAsync();

        worker.Consumer.Completed.Should().BeGreaterThanOrEqualTo(2).And.Be(worker.Provider.Calls).And.BeLessThan(20);
        worker.Consumer.GivenBack.Should().Be(0);
        (await worker.Queue.CountAsync()).Should().Be(20 - worker.Consumer.Completed);
    }

    [Fact]
    public async Task A_stop_gives_back_what_does_not_finish_in_time_and_the_next_worker_goes_on_at_once()
    {
        Reminder[] reminders = RunningWorker.Reminders(20);
        string[] patient = ["--Worker:Visibility=00:10:00", "--TimeoutBudgets:attempt:Total=00:10:00"];
        await using (var stopped = new RunningWorker(_folder.Path, [.. patient, "--Worker:Grace=00:00:00.2"]))
        {
            await stopped.PublishAsync(reminders);
            stopped.Provider.Fault = Fault.Hanging;
            await stopped.StartAsync();
            await RealTime.UntilAsync(() => stopped.Provider.Calls == 4, "each consumer has a message in hand");

            await stopped.StopAsync();

            stopped.Consumer.GivenBack.Should().Be(4);
            (await stopped.Queue.CountAsync()).Should().Be(20);
        }

        // What was not given back would be hidden for ten minutes.
        await using var next = new RunningWorker(_folder.Path, [.. patient, "--Worker:MaxDeliveries=1"]);
        await next.StartAsync();
        await next.UntilEmptyAsync();

        (await next.Queue.DeadLettersAsync()).Should().BeEmpty("a delivery that a stop ended does not count");
        (await next.Provider.SentAsync()).Should().BeEquivalentTo(reminders);
    }

    public void Dispose() => _folder.Dispose();
}
