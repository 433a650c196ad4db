using CsCheck;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.TimeoutBudgets.Tests;

/// <summary>Random starts, disposals in any order, time steps, cancellations and suppressions, against a reference of a few lines.</summary>
public sealed class TimeoutBudgetModelTests
{
    private static readonly Gen<Operation> Operations = Gen.Select(
        Gen.Frequency(
            (6, Gen.Const(Kind.Start)), (3, Gen.Const(Kind.Dispose)), (3, Gen.Const(Kind.Advance)),
            (1, Gen.Const(Kind.Cancel)), (1, Gen.Const(Kind.Suppress)), (1, Gen.Const(Kind.Resume))),
        Gen.Int[0, 40],
        Gen.Int[0, 7],
        (kind, ticks, which) => new Operation(kind, ticks, which));

    private enum Kind
    {
        Start,
        Dispose,
        Advance,
        Cancel,
        Suppress,
        Resume,
    }

    [Fact]
    public void Scopes_behave_like_the_model() => Operations.Array[0, 40].Sample(
        static operations =>
        {
            // A context of its own for each sample: what one leaves behind must not reach the next.
            ExecutionContext.Run(ExecutionContext.Capture()!, static operations => Run((Operation[])operations!), operations);
        },
        iter: 3_000);

    private static void Run(Operation[] operations)
    {
        using IDisposable clean = TimeoutBudget.Suppress();
        var time = new FakeTimeProvider();
        using var caller0 = new CancellationTokenSource();
        using var caller1 = new CancellationTokenSource();
        CancellationTokenSource[] callers = [caller0, caller1];
        List<(IDisposable Real, Model Model)> all = [];
        List<Model> stack = [];
        long now = 0;
        foreach (Operation operation in operations)
        {
            switch (operation.Kind)
            {
                case Kind.Start:
                    CancellationTokenSource? caller = operation.Which < callers.Length ? callers[operation.Which] : null;
                    TimeSpan total = operation.Which == 7 ? Timeout.InfiniteTimeSpan : TimeSpan.FromTicks(operation.Ticks);
                    var started = new Model(stack.LastOrDefault(), now, operation.Which == 7 ? long.MaxValue : now + operation.Ticks, caller, IsMarker: false);
                    all.Add((TimeoutBudget.Start(total, "", time, caller?.Token ?? default), started));
                    stack.Add(started);
                    break;
                case Kind.Suppress:
                    var marker = new Model(null, now, long.MaxValue, null, IsMarker: true);
                    all.Add((TimeoutBudget.Suppress(), marker));
                    stack.Add(marker);
                    break;
                case Kind.Dispose or Kind.Resume:
                    List<(IDisposable Real, Model Model)> candidates = [.. all.Where(scope => scope.Model.IsMarker == (operation.Kind == Kind.Resume))];
                    if (candidates.Count > 0)
                    {
                        (IDisposable real, Model model) = candidates[^(1 + operation.Which % candidates.Count)];
                        real.Dispose();
                        model.Disposed = true;
                        stack.Remove(model);
                    }

                    break;
                case Kind.Advance:
                    now += operation.Ticks;
                    time.Advance(TimeSpan.FromTicks(operation.Ticks));
                    break;
                default:
                    callers[operation.Which % callers.Length].Cancel();
                    break;
            }

            Check(all, stack, now);
        }

        all.Reverse();
        all.ForEach(scope => scope.Real.Dispose());
        TimeoutBudget.Current.Should().BeNull();
    }

    private static void Check(List<(IDisposable Real, Model Model)> all, List<Model> stack, long now)
    {
        foreach ((_, Model model) in all)
        {
            model.Observe(now, all.Select(scope => scope.Model));
        }

        Model? top = stack.LastOrDefault();
        IDisposable? current = top is null || top.IsMarker ? null : all.Single(scope => scope.Model == top).Real;
        TimeoutBudget.Current.Should().BeSameAs(current);
        foreach ((IDisposable real, Model model) in all)
        {
            if (real is TimeoutBudget budget)
            {
                budget.Remaining.Should().Be(model.Deadline == long.MaxValue ? TimeSpan.MaxValue : TimeSpan.FromTicks(Math.Max(0, model.Deadline - now)));
                budget.IsExpired.Should().Be(model.Deadline <= now);
                if (model.Fired)
                {
                    Eventually.BeTrue(() => budget.Token.IsCancellationRequested, "the model says that the token has fired");
                }
                else
                {
                    budget.Token.IsCancellationRequested.Should().BeFalse("the model says that the token has not fired");
                }
            }
        }
    }

    private sealed record Operation(Kind Kind, int Ticks, int Which);

    private sealed record Model(Model? Around, long Start, long OwnDeadline, CancellationTokenSource? Caller, bool IsMarker)
    {
        private Model? Outer { get; } = Around is { IsMarker: false } ? Around : null;

        public long Deadline => Math.Min(OwnDeadline, Outer?.Deadline ?? long.MaxValue);

        public bool Disposed { get; set; }

        public bool Fired { get; private set; }

        private bool HasOwnDeadline => OwnDeadline < (Outer?.Deadline ?? long.MaxValue);

        private bool SharesToken => Outer is not null && !HasOwnDeadline && Caller is null;

        /// <summary>Whether its token can still fire: it lives, or an inner scope that lives hands it on.</summary>
        private bool Counts(IEnumerable<Model> all) => !Disposed || all.Any(inner => inner.Outer == this && inner.SharesToken && inner.Counts(all));

        public void Observe(long now, IEnumerable<Model> all) => Fired |= SharesToken
            ? Outer!.Fired
            : Counts(all) && (Deadline <= now || (!Disposed && Caller is { IsCancellationRequested: true }) || Outer is { Fired: true });

        public bool Equals(Model? other) => ReferenceEquals(this, other);

        public override int GetHashCode() => System.Runtime.CompilerServices.RuntimeHelpers.GetHashCode(this);
    }
}
