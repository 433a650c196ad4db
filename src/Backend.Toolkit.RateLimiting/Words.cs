using System.Runtime.CompilerServices;

namespace Backend.Toolkit.RateLimiting;

/// <summary>One word for each limit of a plan.</summary>
[InlineArray(Plan.MostLimits)]
internal struct Words
{
    private long _first;
}
