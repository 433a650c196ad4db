using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.CircuitBreakers.Tests;

/// <summary>Short words for what the tests do over and over.</summary>
internal static class Circuits
{
    public static readonly TimeSpan Break = TimeSpan.FromSeconds(5);

    /// <summary>Opens after 4 calls of which half failed, for exactly 5 s.</summary>
    public static CircuitBreaker New(FakeTimeProvider time, Action<CircuitBreakerOptions>? configure = null) =>
        new(Options(configure), time);

    public static CircuitBreakerOptions Options(Action<CircuitBreakerOptions>? configure = null)
    {
        var options = new CircuitBreakerOptions { MinimumThroughput = 4, BreakDuration = Break, BreakJitter = 0 };
        configure?.Invoke(options);
        return options;
    }

    public static CircuitPermit Enter(this CircuitBreaker breaker)
    {
        breaker.TryEnter(out CircuitPermit permit).Should().BeTrue("the circuit should admit the call");
        return permit;
    }

    public static bool Rejects(this CircuitBreaker breaker) => !breaker.TryEnter(out _);

    public static void Succeed(this CircuitBreaker breaker, int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            breaker.Enter().Success();
        }
    }

    public static void Fail(this CircuitBreaker breaker, int times = 1)
    {
        for (int i = 0; i < times; i++)
        {
            breaker.Enter().Failure();
        }
    }

    /// <summary>Open, with the break just begun.</summary>
    public static CircuitBreaker Open(FakeTimeProvider time, Action<CircuitBreakerOptions>? configure = null)
    {
        CircuitBreaker breaker = New(time, configure);
        breaker.Fail(4);
        breaker.State.Should().Be(CircuitState.Open);
        return breaker;
    }

    /// <summary>Half-open, with no probe out.</summary>
    public static CircuitBreaker HalfOpen(FakeTimeProvider time, Action<CircuitBreakerOptions>? configure = null)
    {
        CircuitBreaker breaker = Open(time, configure);
        time.Advance(Break);
        breaker.State.Should().Be(CircuitState.HalfOpen);
        return breaker;
    }
}
