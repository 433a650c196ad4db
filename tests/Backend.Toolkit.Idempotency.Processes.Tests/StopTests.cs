[assembly: AssemblyFixture(typeof(PostgreSqlServer))]

// Processes that share two cores with each other would be slow for no reason of their own.
[assembly: Xunit.v3.Parallelization(Mode = Xunit.Sdk.ParallelMode.None)]

namespace Backend.Toolkit.Idempotency.Processes.Tests;

/// <summary>A node stands still in the middle of a run, and goes on when others have finished it.</summary>
public sealed class StopTests(PostgreSqlServer postgreSql)
{
    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgresql")]
    [InlineData("redis")]
    public async Task An_owner_that_was_stopped_past_its_lease_neither_records_nor_overwrites(string store)
    {
        await using Place place = await Place.MakeAsync(postgreSql, store, inTransaction: false);
        await using NodeProcess sleeper = await NodeProcess.StartAsync(place.Node("sleeper") with { SlowMilliseconds = 600 });
        await using NodeProcess other = await NodeProcess.StartAsync(place.Node("other"));
        using var clients = new Clients();
        Task<Exchange> late = clients.SendAsync(sleeper.Address, "k", "10");
        await UntilAsync(() => place.Ledger.Runs().Count == 1);

        sleeper.Stop();
        Exchange finished = await clients.PayAsync(_ => other.Address, "k");
        sleeper.Continue();
        Exchange zombie = await late;
        Exchange again = await clients.SendAsync(sleeper.Address, "k", "10");
        Exchange elsewhere = await clients.SendAsync(other.Address, "k", "10");

        zombie.Status.Should().BeOneOf(409, 503);
        again.Should().BeEquivalentTo(new { Status = 200, finished.Answer, IsReplayed = true });
        elsewhere.Should().BeEquivalentTo(new { Status = 200, finished.Answer, IsReplayed = true });
        place.Ledger.Runs().Select(run => run.Node).Should().Equal("sleeper", "other");
        place.Ledger.Runs().Select(run => run.Downstream).Distinct().Should().ContainSingle();
    }

    [Theory]
    [InlineData("sqlite")]
    [InlineData("postgresql")]
    public async Task An_owner_that_was_stopped_in_its_transaction_is_not_run_over(string store)
    {
        await using Place place = await Place.MakeAsync(postgreSql, store, inTransaction: true);
        await using NodeProcess sleeper = await NodeProcess.StartAsync(place.Node("sleeper") with { SlowMilliseconds = 600 });
        await using NodeProcess other = await NodeProcess.StartAsync(place.Node("other"));
        using var clients = new Clients();
        Task<Exchange> late = clients.SendAsync(sleeper.Address, "k", "10");
        await UntilAsync(() => place.Ledger.Runs().Count == 1);

        sleeper.Stop();
        await Task.Delay(NodeSettings.Lease, TimeProvider.System, TestContext.Current.CancellationToken);
        Exchange duplicate = await clients.SendAsync(other.Address, "k", "10");
        sleeper.Continue();
        Exchange finished = await late;
        Exchange again = await clients.SendAsync(other.Address, "k", "10");

        duplicate.Status.Should().BeOneOf(409, 503);
        finished.Status.Should().Be(200);
        again.Should().BeEquivalentTo(new { Status = 200, finished.Answer, IsReplayed = true });
        (await place.ChargesAsync())["k"].Should().ContainSingle();
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30), TimeProvider.System);
        while (!condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, limit.Token);
        }
    }
}
