namespace Backend.Toolkit.CircuitBreakers;

/// <summary>The options that all circuits of a group share, and how many circuits it keeps.</summary>
public sealed class CircuitBreakerGroupOptions : CircuitBreakerOptions
{
    /// <summary>The most circuits that the group keeps; the least recently used goes first. 1 to 1 000 000; default 1 024.</summary>
    public int Capacity { get; set; } = 1024;

    /// <inheritdoc />
    public override IEnumerable<string> Problems()
    {
        foreach (string problem in base.Problems())
        {
            yield return problem;
        }

        if (Capacity is < 1 or > 1_000_000)
        {
            yield return Problem(nameof(Capacity), "between 1 and 1000000", Capacity);
        }
    }
}
