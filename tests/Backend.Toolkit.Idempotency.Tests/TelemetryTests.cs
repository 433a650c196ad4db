using System.Diagnostics.Metrics;

namespace Backend.Toolkit.Idempotency.Tests;

[Collection("telemetry")]
public sealed class TelemetryTests : Fixture
{
    [Fact]
    public async Task What_was_found_and_what_was_recorded_is_counted()
    {
        using var metrics = new Metrics("counted");
        IdempotentExecutor executor = Executor(o => (o.Name, o.MaxOutcomeBytes) = ("counted", 40));
        await RunAsync(executor);
        await RunAsync(executor);
        await RefusalAsync(RunAsync(executor, body: [1]));
        await RefusalAsync(RunAsync(executor, Guid.CreateVersion7(Start.AddDays(-2)).ToString()));
        await executor.ExecuteAsync("large", Body, (_, _) => new ValueTask<string>(new string('x', 50)), Json.Default.String);
        Func<Task> failing = async () => await RunAsync(executor, "failing", within: (_, _) => throw new IOException());
        await failing.Should().ThrowAsync<IOException>();
        await RefusalAsync(RunAsync(executor, "failing"));
        await RunAsync(executor, "given back", within: async (operation, ct) => await operation.AbandonAsync(ct));

        metrics.Seen.Should().Equal(
            "begun started", "ended stored", "begun completed", "begun mismatch", "begun key_expired", "begun started", "ended tombstone",
            "begun started", "ended left", "begun in_progress", "begun started", "ended abandoned");
    }

    [Fact]
    public async Task Outages_and_lost_leases_are_counted()
    {
        using var metrics = new Metrics("lost");
        IdempotentExecutor executor = Executor(o => (o.Name, o.StoreRequired) = ("lost", false));
        Store.Fail();
        await RunAsync(executor);
        Store.Fail(Verb.Renew);
        Func<Task> zombie = async () => await RunAsync(executor, within: async (_, _) =>
        {
            for (int third = 0; third < 3; third++)
            {
                Time.Advance(Lease / 3);
            }

            await using IdempotentOperation owner = await Executor(o => o.Name = "other").BeginAsync(new IdempotencyScope("lost"), "key", Body, CancellationToken.None);
            owner.Status.Should().Be(IdempotencyStatus.Started);
        });
        (await zombie.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.LeaseLost);

        metrics.Seen.Should().Equal(
            "store_failures", "begun unprotected", "ended unprotected", "begun started", "store_failures", "store_failures", "leases_lost", "ended lease_lost");
    }

    [Fact]
    public async Task A_named_store_in_memory_tells_how_many_records_it_has()
    {
        using var metrics = new Metrics("gauge");
        var store = new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions { Name = "gauge" }, Time);
        await store.BeginAsync(new IdempotencyClaimRequest { Key = default, Fingerprint = default, Lease = Lease, Retention = Lease });

        metrics.Observe();

        metrics.Seen.Should().Equal("records 1");
        GC.KeepAlive(store);
    }

    [Fact]
    public async Task A_listener_that_throws_changes_nothing()
    {
        using var listener = new MeterListener();
        listener.InstrumentPublished = static (instrument, self) =>
        {
            if (instrument.Meter.Name == "Backend.Toolkit.Idempotency")
            {
                self.EnableMeasurementEvents(instrument);
            }
        };
        int heard = 0;
        listener.SetMeasurementEventCallback<long>((_, _, _, _) =>
        {
            heard++;
            throw new InvalidOperationException("bug");
        });
        listener.Start();

        Receipt receipt = await RunAsync(Executor());

        receipt.Number.Should().Be(1);
        heard.Should().Be(2);
    }

    [Fact]
    public async Task An_operation_that_is_disposed_of_while_it_completes_is_counted_once()
    {
        using var metrics = new Metrics("disposed");
        IdempotentExecutor executor = Executor(o => o.Name = "disposed");
        IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Store.After = (verb, _) => verb == Verb.Complete ? gate.Task : Task.CompletedTask;

        Task<bool> completing = operation.CompleteAsync(new IdempotencyOutcome(200, Body)).AsTask();
        await operation.DisposeAsync();
        gate.SetResult();

        (await WithinAsync(completing)).Should().BeTrue();
        metrics.Seen.Should().Equal("begun started", "ended left");
    }
}
