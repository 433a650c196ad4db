using Microsoft.Extensions.Options;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

public sealed class GroupTests
{
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public void Each_key_has_a_circuit_of_its_own()
    {
        using CircuitBreakerGroup<string> group = New();

        group.For("a").Fail(4);

        group.For("a").State.Should().Be(CircuitState.Open);
        group.For("b").State.Should().Be(CircuitState.Closed);
        group.For("b").Should().BeSameAs(group.For("b"));
    }

    [Fact]
    public void A_snapshot_has_keys_states_and_counts()
    {
        using CircuitBreakerGroup<string> group = New();
        group.For("a").Fail(4);
        group.For("b").Succeed(2);
        group.For("b").Fail();

        group.Snapshot().Should().BeEquivalentTo(
        [
            new CircuitGroupEntry<string>("a", CircuitState.Open, 0, 0, 0),
            new CircuitGroupEntry<string>("b", CircuitState.Closed, 2, 1, 0),
        ]);
    }

    [Fact]
    public void A_full_group_never_holds_more_than_its_capacity()
    {
        using CircuitBreakerGroup<int> group = New<int>(10);

        for (int key = 0; key < 1000; key++)
        {
            group.For(key);
        }

        group.Snapshot().Should().HaveCount(10);
    }

    [Fact]
    public void The_least_recently_used_goes_first()
    {
        using CircuitBreakerGroup<int> group = New<int>(40);
        for (int key = 0; key < 40; key++)
        {
            group.For(key);
        }

        for (int key = 0; key < 20; key++)
        {
            group.For(key);
        }

        for (int key = 100; key < 119; key++)
        {
            group.For(key);
        }

        group.Snapshot().Select(entry => entry.Key).Should().BeEquivalentTo([.. Enumerable.Range(0, 20), 39, .. Enumerable.Range(100, 19)]);
    }

    [Fact]
    public void In_a_large_group_the_recently_used_mostly_stay()
    {
        using CircuitBreakerGroup<int> group = New<int>(1000);
        for (int key = 0; key < 1000; key++)
        {
            group.For(key);
        }

        for (int round = 0; round < 5; round++)
        {
            for (int key = 0; key < 500; key++)
            {
                group.For(key);
            }

            for (int key = 0; key < 80; key++)
            {
                group.For(10_000 + round * 100 + key);
            }
        }

        group.Snapshot().Count(entry => entry.Key < 500).Should().BeGreaterThan(490);
    }

    [Fact]
    public void An_open_circuit_goes_last()
    {
        using CircuitBreakerGroup<int> group = New<int>(3);
        group.For(1).Fail(4);
        group.For(2);
        group.For(3);

        for (int key = 10; key < 100; key++)
        {
            group.For(key);
        }

        group.For(1).State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_circuit_with_tracked_calls_in_flight_goes_last()
    {
        using CircuitBreakerGroup<int> group = New<int>(3, o => o.SlowCallDuration = TimeSpan.FromSeconds(1));
        CircuitBreaker busy = group.For(1);
        CircuitPermit permit = busy.Enter();

        for (int key = 10; key < 100; key++)
        {
            group.For(key);
        }

        group.For(1).Should().BeSameAs(busy);
        permit.Success();
        for (int key = 10; key < 100; key++)
        {
            group.For(key);
        }

        group.For(1).Should().NotBeSameAs(busy);
    }

    [Fact]
    public void Circuits_whose_break_was_over_long_ago_make_room_for_live_ones()
    {
        using CircuitBreakerGroup<int> group = New<int>(100);
        for (int key = 0; key < 99; key++)
        {
            group.For(key).Fail(4);
        }

        _time.Advance(TimeSpan.FromDays(365));
        int rejected = 0;
        for (int i = 0; i < 1000; i++)
        {
            foreach (int live in new[] { 1000, 1001 })
            {
                if (group.For(live).TryEnter(out CircuitPermit permit))
                {
                    permit.Failure();
                }
                else
                {
                    rejected++;
                }
            }
        }

        rejected.Should().BeGreaterThan(1900);
    }

    [Fact]
    public void A_detached_circuit_takes_new_options_over_at_its_next_bucket()
    {
        using CircuitBreakerGroup<int> group = New<int>(1);
        CircuitBreaker held = group.For(1);
        group.For(2);

        group.Update(Options(1, o => o.SlowCallDuration = TimeSpan.FromSeconds(8)));
        _time.Advance(TimeSpan.FromSeconds(3));
        held.Succeed();
        for (int i = 0; i < 10; i++)
        {
            held.Enter();
        }

        _time.Advance(TimeSpan.FromSeconds(10));
        held.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void When_all_are_open_the_bound_still_holds()
    {
        using CircuitBreakerGroup<int> group = New<int>(5);

        for (int key = 0; key < 50; key++)
        {
            group.For(key).Fail(4);
        }

        group.Snapshot().Should().HaveCount(5).And.OnlyContain(entry => entry.State == CircuitState.Open);
    }

    [Fact]
    public void An_evicted_circuit_that_is_still_held_keeps_working_detached()
    {
        using CircuitBreakerGroup<int> group = New<int>(1);
        CircuitBreaker held = group.For(1);
        CircuitPermit permit = held.Enter();
        group.For(2);

        permit.Failure();
        held.Fail(3);

        held.State.Should().Be(CircuitState.Open);
        group.For(1).State.Should().Be(CircuitState.Closed);
    }

    [Fact]
    public void An_update_reaches_every_circuit_and_keeps_its_state()
    {
        using CircuitBreakerGroup<int> group = New<int>(2);
        CircuitBreaker detached = group.For(0);
        group.For(1).Fail(2);
        group.For(2).Fail(4);

        group.Update(Options(2, o => o.MinimumThroughput = 3));
        group.For(1).Fail();
        detached.Fail(3);

        group.For(1).State.Should().Be(CircuitState.Open);
        group.For(2).State.Should().Be(CircuitState.Open);
        detached.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void An_update_that_turns_slow_calls_on_counts_them_at_once()
    {
        using CircuitBreakerGroup<int> group = New<int>(2);
        CircuitBreaker circuit = group.For(1);

        group.Update(Options(2, o => o.SlowCallDuration = TimeSpan.FromSeconds(8)));
        for (int i = 0; i < 4; i++)
        {
            circuit.Enter();
        }

        _time.Advance(TimeSpan.FromSeconds(9));
        circuit.State.Should().Be(CircuitState.Open);
    }

    [Fact]
    public void A_smaller_capacity_drops_circuits_at_once()
    {
        using CircuitBreakerGroup<int> group = New<int>(10);
        for (int key = 0; key < 10; key++)
        {
            group.For(key);
        }

        group.Update(Options(4));

        group.Snapshot().Should().HaveCount(4);
    }

    [Fact]
    public void A_disposed_group_says_so()
    {
        CircuitBreakerGroup<string> group = New();
        CircuitBreaker held = group.For("a");

        group.Dispose();
        group.Dispose();

        group.Invoking(g => g.For("a")).Should().Throw<ObjectDisposedException>();
        group.Invoking(g => g.For("b")).Should().Throw<ObjectDisposedException>();
        group.Snapshot().Should().BeEmpty();
        held.Rejects().Should().BeFalse();
    }

    [Fact]
    public void Bad_options_and_keys_are_refused()
    {
        FluentActions.Invoking(() => New<int>(0)).Should().Throw<OptionsValidationException>().WithMessage("*Capacity must be between 1 and 1000000, but is 0.*");
        FluentActions.Invoking(() => New().For(null!)).Should().Throw<ArgumentNullException>();
    }

    [Fact]
    public async Task Many_threads_and_keys_never_exceed_the_bound_nor_split_a_circuit()
    {
        using CircuitBreakerGroup<int> group = New<int>(64);
        int tooMany = 0;

        await Task.WhenAll(Enumerable.Range(0, 4).Select(worker => Task.Run(() =>
        {
            var random = new Random(worker);
            for (int i = 0; i < 20_000; i++)
            {
                CircuitBreaker circuit = group.For(random.Next(200));
                if (circuit.TryEnter(out CircuitPermit permit))
                {
                    permit.Success();
                }

                if (i % 1000 == 0 && group.Snapshot().Count > 64)
                {
                    Interlocked.Increment(ref tooMany);
                }
            }
        })));

        tooMany.Should().Be(0);
        group.Snapshot().Should().HaveCount(64);
        group.For(1).Should().BeSameAs(group.For(1));
    }

    private static CircuitBreakerGroupOptions Options(int capacity, Action<CircuitBreakerOptions>? configure = null)
    {
        var options = new CircuitBreakerGroupOptions { Capacity = capacity, MinimumThroughput = 4, BreakDuration = Circuits.Break, BreakJitter = 0 };
        configure?.Invoke(options);
        return options;
    }

    private CircuitBreakerGroup<string> New() => New<string>(1024);

    private CircuitBreakerGroup<TKey> New<TKey>(int capacity, Action<CircuitBreakerOptions>? configure = null)
        where TKey : notnull => new(Options(capacity, configure), _time);
}
