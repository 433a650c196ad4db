using System.Text;
using Microsoft.Extensions.Time.Testing;

namespace Backend.Toolkit.Idempotency.Tests;

/// <summary>An executor over a store in memory, in time that only a test moves.</summary>
public abstract class Fixture
{
    internal static readonly byte[] Body = Encoding.UTF8.GetBytes("two apples");

    internal static readonly DateTimeOffset Start = new(2026, 7, 1, 12, 0, 0, TimeSpan.Zero);

    internal static readonly TimeSpan Lease = TimeSpan.FromSeconds(30);

    internal FakeTimeProvider Time { get; } = new(Start);

    internal LogList Log { get; } = new();

    internal TestStore Store { get; }

    internal IdempotencyOptions Options { get; } = new() { Name = "orders" };

    internal int Runs;

    protected Fixture() => Store = new TestStore(new MemoryIdempotencyStore(new MemoryIdempotencyStoreOptions(), Time));

    internal IdempotentExecutor Executor(Action<IdempotencyOptions>? configure = null)
    {
        configure?.Invoke(Options);
        return new IdempotentExecutor(Store, Options, Time, Log);
    }

    /// <summary>One run that gives its own number.</summary>
    internal ValueTask<Receipt> RunAsync(IdempotentExecutor executor, string key = "key", byte[]? body = null, Func<IdempotentOperation, CancellationToken, ValueTask>? within = null, CancellationToken token = default) =>
        executor.ExecuteAsync(
            key,
            body ?? Body,
            async (operation, ct) =>
            {
                int number = Interlocked.Increment(ref Runs);
                await (within?.Invoke(operation, ct) ?? ValueTask.CompletedTask);
                return new Receipt(number, "thanks");
            },
            Json.Default.Receipt,
            token);

    internal static async Task<IdempotencyException> RefusalAsync(ValueTask<Receipt> run)
    {
        Func<Task> awaiting = async () => await run;
        return (await awaiting.Should().ThrowAsync<IdempotencyException>()).Which;
    }

    /// <summary>Long enough for any machine; only a test that fails takes it.</summary>
    internal static Task WithinAsync(Task task) => task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

    internal static Task<T> WithinAsync<T>(Task<T> task) => task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System);

    /// <summary>Moves the time on, in small steps, until the task has ended: what continues elsewhere gets its turn between them.</summary>
    internal async Task AdvanceUntilAsync(Task task, TimeSpan step)
    {
        for (int i = 0; i < 10_000 && !task.IsCompleted; i++)
        {
            Time.Advance(step);
            await Task.WhenAny(task, Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System, CancellationToken.None));
        }

        task.IsCompleted.Should().BeTrue();
    }
}
