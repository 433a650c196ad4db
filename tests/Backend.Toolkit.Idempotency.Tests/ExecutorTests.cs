using System.Buffers.Binary;
using System.Security.Cryptography;
using System.Text;

namespace Backend.Toolkit.Idempotency.Tests;

public sealed class ExecutorTests : Fixture
{
    [Fact]
    public async Task A_repeat_gets_the_result_of_the_run_that_was()
    {
        IdempotentExecutor executor = Executor();
        Receipt first = await RunAsync(executor);

        Receipt second = await RunAsync(executor);

        first.Should().Be(new Receipt(1, "thanks"));
        second.Should().Be(first);
        Runs.Should().Be(1);
        (Store.Calls(Verb.Begin), Store.Calls(Verb.Complete)).Should().Be((2, 1), "two calls for a run and one for a repeat");
    }

    [Fact]
    public async Task All_overloads_run_once_and_repeat()
    {
        IdempotentExecutor executor = Executor();
        int runs = 0;
        Func<IdempotentOperation, CancellationToken, Task<int>> task = (_, _) => Task.FromResult(++runs);
        Func<IdempotentOperation, CancellationToken, Task> nothing = (_, _) => Task.FromResult(++runs);
        Func<IdempotentOperation, CancellationToken, ValueTask> nothingAtAll = (_, _) => new ValueTask(Task.FromResult(++runs));

        for (int i = 0; i < 2; i++)
        {
            (await executor.ExecuteAsync("value", Body, (_, _) => new ValueTask<int>(++runs), Json.Default.Int32)).Should().Be(1);
            (await executor.ExecuteAsync("task", Body, task, Json.Default.Int32)).Should().Be(2);
            await executor.ExecuteAsync("nothing", Body, nothing);
            await executor.ExecuteAsync("nothing at all", Body, nothingAtAll);
        }

        runs.Should().Be(4);
    }

    [Fact]
    public async Task A_result_of_null_is_a_result()
    {
        IdempotentExecutor executor = Executor();
        int runs = 0;

        for (int i = 0; i < 2; i++)
        {
            string? result = await executor.ExecuteAsync("key", Body, (_, _) =>
            {
                runs++;
                return new ValueTask<string>((string)null!);
            }, Json.Default.String);
            result.Should().BeNull();
        }

        runs.Should().Be(1);
    }

    [Fact]
    public async Task Another_fingerprint_is_refused_and_does_not_run()
    {
        IdempotentExecutor executor = Executor();
        await RunAsync(executor);

        IdempotencyException refusal = await RefusalAsync(RunAsync(executor, body: [1]));

        refusal.Error.Should().Be(IdempotencyError.Mismatch);
        refusal.RetryAfter.Should().BeNull();
        Runs.Should().Be(1);
    }

    [Fact]
    public async Task Keys_of_other_names_subjects_and_spellings_never_meet()
    {
        string subject = "";
        IdempotentExecutor executor = Executor(o => o.Subject = () => subject);
        var other = new IdempotentExecutor(Store, new IdempotencyOptions { Name = "order", Subject = () => subject }, Time);
        (IdempotentExecutor, string, string)[] cases =
        [
            (executor, "", "key"), (other, "", "key"), (other, "", "skey"), (executor, "k", "ey"), (executor, "ke", "y"), (executor, "a", "key"), (executor, "", "Key"), (executor, "", "key "),
            (executor, "", "\ud800x"), (executor, "", "\ufffdx"), (executor, "", "é"), (executor, "", "e\u0301"),
        ];

        foreach ((IdempotentExecutor which, string whose, string key) in cases)
        {
            subject = whose;
            await RunAsync(which, key);
        }

        Runs.Should().Be(cases.Length);
        Store.Begun.Distinct().Should().HaveCount(cases.Length);
    }

    [Theory]
    [InlineData("")]
    [InlineData(null)]
    [InlineData("a\nb")]
    [InlineData("\0")]
    [InlineData("a\u007f")]
    [InlineData("a\u0085")]
    public void A_malformed_key_is_refused_before_the_store_is_touched(string? key)
    {
        IdempotentExecutor executor = Executor();

        Action run = () => _ = RunAsync(executor, key!);

        run.Should().Throw<ArgumentException>().Which.ParamName.Should().Be("key");
        Store.AllCalls.Should().Be(0);
        Runs.Should().Be(0);
    }

    [Fact]
    public async Task A_key_has_up_to_255_characters()
    {
        IdempotentExecutor executor = Executor();

        await RunAsync(executor, new string('k', 255));
        Action longer = () => _ = RunAsync(executor, new string('k', 256));
        Action tenThousand = () => _ = RunAsync(executor, new string('k', 10_000));

        longer.Should().Throw<ArgumentException>().WithMessage("An idempotency key must have 1 to 255 characters, but this one has 256.*");
        tenThousand.Should().Throw<ArgumentException>();
        IdempotentExecutor.KeyProblem("k").Should().BeNull();
    }

    [Fact]
    public async Task A_duplicate_in_flight_is_rejected_with_the_time_after_which_it_may_come_back()
    {
        IdempotentExecutor executor = Executor();
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<Receipt> first = RunAsync(executor, within: (_, _) => new ValueTask(gate.Task)).AsTask();
        Time.Advance(TimeSpan.FromSeconds(4));

        IdempotencyException refusal = await RefusalAsync(RunAsync(executor));

        gate.SetResult();
        (await WithinAsync(first)).Number.Should().Be(1);
        refusal.Error.Should().Be(IdempotencyError.InProgress);
        refusal.RetryAfter.Should().Be(TimeSpan.FromSeconds(26));
        Runs.Should().Be(1);
    }

    [Fact]
    public async Task Sixty_four_that_wait_get_the_one_result()
    {
        IdempotentExecutor executor = Executor(o => o.Duplicates = DuplicatePolicy.WaitAndReplay);
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

        Task<Receipt>[] all = [.. Enumerable.Range(0, 64).Select(_ => Task.Run(async () => await RunAsync(executor, within: (_, _) => new ValueTask(gate.Task))))];
        SpinWait.SpinUntil(() => Store.Calls(Verb.Wait) == 63, TimeSpan.FromSeconds(30)).Should().BeTrue();
        gate.SetResult();

        (await WithinAsync(Task.WhenAll(all))).Should().OnlyContain(receipt => receipt.Number == 1);
        Runs.Should().Be(1);
    }

    [Theory]
    [InlineData(null, 10)]
    [InlineData(3.0, 3)]
    [InlineData(30.0, 10)]
    [InlineData(0.0, 0)]
    [InlineData(-5.0, 0)]
    public async Task A_wait_is_bounded_by_what_the_caller_has_left(double? timeLeft, double expected)
    {
        IdempotentExecutor executor = Executor(o =>
        {
            o.Duplicates = DuplicatePolicy.WaitAndReplay;
            o.TimeLeft = () => timeLeft is { } seconds ? TimeSpan.FromSeconds(seconds) : null;
        });
        var gate = new TaskCompletionSource();
        Task<Receipt> first = RunAsync(executor, within: (_, _) => new ValueTask(gate.Task)).AsTask();
        DateTimeOffset since = Time.GetUtcNow();

        Task<IdempotencyException> waiting = RefusalAsync(RunAsync(executor));
        if (expected > 0)
        {
            await AdvanceUntilAsync(waiting, TimeSpan.FromMilliseconds(500));
        }

        IdempotencyException refusal = await WithinAsync(waiting);
        double waited = (Time.GetUtcNow() - since).TotalSeconds;
        gate.SetResult();
        await WithinAsync(first);
        refusal.Error.Should().Be(IdempotencyError.InProgress);
        waited.Should().BeInRange(expected, expected == 0 ? 0 : expected + 2);
    }

    [Fact]
    public async Task A_deadline_that_cannot_be_read_is_told_and_bounds_nothing()
    {
        IdempotentExecutor executor = Executor(o =>
        {
            o.Duplicates = DuplicatePolicy.WaitAndReplay;
            o.TimeLeft = () => throw new InvalidOperationException("bug");
        });
        var gate = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        Task<Receipt> first = RunAsync(executor, within: (_, _) => new ValueTask(gate.Task)).AsTask();
        Task<Receipt> second = RunAsync(executor).AsTask();

        gate.SetResult();

        (await WithinAsync(second)).Should().Be(await WithinAsync(first));
        Log.Entries.Should().ContainSingle(entry => entry.Id == 7).Which.Exception!.Message.Should().Be("bug");
    }

    [Fact]
    public async Task Who_waits_for_a_run_that_dies_takes_over_when_its_lease_is_over()
    {
        IdempotentExecutor executor = Executor(o =>
        {
            o.Duplicates = DuplicatePolicy.WaitAndReplay;
            o.MaxWait = TimeSpan.FromMinutes(2);
        });
        Func<Task> dying = async () => await RunAsync(executor, within: (_, _) => throw new IOException("the power is gone"));
        await dying.Should().ThrowAsync<IOException>();
        DateTimeOffset since = Time.GetUtcNow();

        Task<Receipt> second = RunAsync(executor).AsTask();
        await AdvanceUntilAsync(second, TimeSpan.FromSeconds(1));

        (await second).Number.Should().Be(2);
        (Time.GetUtcNow() - since).Should().BeGreaterThanOrEqualTo(Lease).And.BeLessThan(Lease + TimeSpan.FromSeconds(5));
    }

    [Fact]
    public async Task An_exception_comes_out_and_the_claim_stays_until_its_lease_is_over()
    {
        IdempotentExecutor executor = Executor();
        var keys = new List<string>();
        Func<Task> failing = async () => await RunAsync(executor, within: (operation, _) =>
        {
            keys.Add(operation.DownstreamKey("charge"));
            throw new IOException("the far side hung up");
        });
        await failing.Should().ThrowAsync<IOException>();

        IdempotencyException refusal = await RefusalAsync(RunAsync(executor));
        Time.Advance(Lease);
        Receipt again = await RunAsync(executor, within: (operation, _) =>
        {
            keys.Add(operation.DownstreamKey("charge"));
            return ValueTask.CompletedTask;
        });

        refusal.Error.Should().Be(IdempotencyError.InProgress);
        refusal.RetryAfter.Should().Be(Lease);
        again.Number.Should().Be(2);
        keys.Should().HaveCount(2).And.OnlyContain(key => key == keys[0]);
        Store.Calls(Verb.Renew).Should().Be(0, "a run that has ended has no heartbeat");
    }

    [Fact]
    public async Task An_action_that_throws_before_its_first_await_fails_through_the_task()
    {
        IdempotentExecutor executor = Executor();

        ValueTask<int> run = executor.ExecuteAsync("key", Body, (_, _) => Throw(), Json.Default.Int32);

        Func<Task> awaiting = async () => await run;
        await awaiting.Should().ThrowAsync<IOException>();

        static ValueTask<int> Throw() => throw new IOException("at once");
    }

    [Fact]
    public async Task A_run_that_gives_its_key_back_is_not_recorded()
    {
        IdempotentExecutor executor = Executor();

        Receipt first = await RunAsync(executor, within: async (operation, ct) =>
        {
            (await operation.AbandonAsync(ct)).Should().BeTrue();
            operation.IsAbandoned.Should().BeTrue();
        });
        Receipt second = await RunAsync(executor, body: [1]);

        (first.Number, second.Number).Should().Be((1, 2));
        Store.Calls(Verb.Complete).Should().Be(1);
    }

    [Fact]
    public async Task An_exception_after_the_key_was_given_back_lets_the_next_run_at_once()
    {
        IdempotentExecutor executor = Executor();
        Func<Task> failing = async () => await RunAsync(executor, within: async (operation, ct) =>
        {
            await operation.AbandonAsync(ct);
            throw new IOException("busy");
        });
        await failing.Should().ThrowAsync<IOException>();

        (await RunAsync(executor)).Number.Should().Be(2);
    }

    [Fact]
    public async Task A_result_that_is_too_large_leaves_a_tombstone_and_never_runs_again()
    {
        IdempotentExecutor executor = Executor(o => o.MaxOutcomeBytes = 100);
        string large = new('x', 99);

        string first = await executor.ExecuteAsync("key", Body, (_, _) => new ValueTask<string>(large), Json.Default.String);
        Func<Task> repeat = async () => await executor.ExecuteAsync("key", Body, (_, _) => throw new InvalidOperationException("ran again"), Json.Default.String);
        string fits = await executor.ExecuteAsync("other", Body, (_, _) => new ValueTask<string>(large[..98]), Json.Default.String);

        first.Should().Be(large);
        (await repeat.Should().ThrowAsync<IdempotencyException>()).Which.Error.Should().Be(IdempotencyError.OutcomeNotKept);
        fits.Should().Be(await executor.ExecuteAsync("other", Body, (_, _) => throw new InvalidOperationException("ran again"), Json.Default.String));
    }

    [Fact]
    public async Task A_result_that_cannot_be_written_fails_and_never_runs_again()
    {
        IdempotentExecutor executor = Executor();
        Func<Task> run = async () => await executor.ExecuteAsync("key", Body, (_, _) =>
        {
            Runs++;
            return new ValueTask<Unwritable>(new Unwritable(double.NaN));
        }, Json.Default.Unwritable);

        await run.Should().ThrowAsync<ArgumentException>();
        (await run.Should().ThrowAsync<IdempotencyException>().WithMessage("*could not be written*")).Which.Error.Should().Be(IdempotencyError.OutcomeNotKept);

        Runs.Should().Be(1);
    }

    [Fact]
    public async Task A_replay_after_the_type_changed_is_a_typed_error()
    {
        IdempotentExecutor executor = Executor();
        await RunAsync(executor);

        Func<Task> replay = async () => await executor.ExecuteAsync("key", Body, (_, _) => throw new InvalidOperationException("ran again"), Json.Default.Int32);

        IdempotencyException error = (await replay.Should().ThrowAsync<IdempotencyException>()).Which;
        error.Error.Should().Be(IdempotencyError.OutcomeUnreadable);
        error.InnerException.Should().BeOfType<System.Text.Json.JsonException>();
    }

    [Fact]
    public async Task An_action_cannot_end_the_operation_twice()
    {
        IdempotentExecutor executor = Executor();

        Func<Task> run = async () => await RunAsync(executor, within: async (operation, ct) => await operation.CompleteAsync(new IdempotencyOutcome(1, Body), ct));

        await run.Should().ThrowAsync<InvalidOperationException>().WithMessage("The operation has ended.");
    }

    [Theory]
    [InlineData(-24 * 3600 - 1, true)]
    [InlineData(-24 * 3600, false)]
    [InlineData(0, false)]
    [InlineData(3600, false)]
    public async Task A_key_that_carries_its_time_and_is_older_than_the_retention_is_refused(int seconds, bool refused)
    {
        IdempotentExecutor executor = Executor();
        string key = Guid.CreateVersion7(Start.AddSeconds(seconds)).ToString();

        ValueTask<Receipt> run = RunAsync(executor, key);

        if (refused)
        {
            (await RefusalAsync(run)).Error.Should().Be(IdempotencyError.KeyExpired);
        }
        else
        {
            (await run).Number.Should().Be(1);
        }

        (Runs, Store.AllCalls).Should().Be(refused ? (0, 0) : (1, 2));
    }

    [Fact]
    public async Task Only_a_uuid_of_version_7_carries_its_time_and_only_where_that_is_asked_for()
    {
        IdempotentExecutor executor = Executor();
        string old = Guid.CreateVersion7(Start.AddDays(-2)).ToString();
        string[] timeless = [old[..14] + '4' + old[15..], old[..19] + '1' + old[20..], old[..35], old.Replace('-', '_'), "{" + old + "}"];

        foreach (string key in timeless)
        {
            await RunAsync(executor, key);
        }

        IdempotencyException upper = await RefusalAsync(RunAsync(executor, old.ToUpperInvariant()));
        await RunAsync(Executor(o => o.RefuseExpiredKeys = false), old);

        Runs.Should().Be(timeless.Length + 1);
        upper.Error.Should().Be(IdempotencyError.KeyExpired);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("a secret of many characters")]
    public async Task Keys_are_stored_as_hashes_over_parts_with_their_lengths(string? secret)
    {
        IdempotentExecutor executor = Executor(o =>
        {
            o.Secret = secret;
            o.Subject = () => "Zoë";
        });
        using var bytes = new MemoryStream();
        foreach (byte[] part in new[] { Encoding.Unicode.GetBytes("key"), Encoding.Unicode.GetBytes("orders"), Encoding.Unicode.GetBytes("Zoë"), Encoding.Unicode.GetBytes("key"), [] })
        {
            byte[] length = new byte[4];
            BinaryPrimitives.WriteInt32BigEndian(length, part.Length);
            bytes.Write(length);
            bytes.Write(part);
        }

        await RunAsync(executor);

        byte[] expected = secret is null ? SHA256.HashData(bytes.ToArray()) : HMACSHA256.HashData(Encoding.UTF8.GetBytes(secret), bytes.ToArray());
        Store.Begun.Should().ContainSingle().Which.Should().Be(new IdempotencyDigest(expected));
        Store.Begun.Single().ToString().Should().Be(Convert.ToHexString(expected).ToLowerInvariant());
    }

    [Fact]
    public async Task Long_names_and_subjects_are_hashed_whole()
    {
        string subject = new('s', 5_000);
        IdempotentExecutor executor = Executor(o => o.Subject = () => subject);
        await RunAsync(executor);

        subject = subject[..^1] + "t";
        await RunAsync(executor);

        Runs.Should().Be(2);
    }

    [Fact]
    public async Task While_a_secret_is_rotated_records_are_found_under_both_and_written_under_the_newest()
    {
        const string Old = "the old secret, long enough";
        const string New = "the new secret, long enough";
        IdempotentExecutor before = Executor(o => o.Secret = Old);
        IdempotentExecutor prepared = Executor(o => o.PreviousSecret = New);
        IdempotentExecutor rotated = Executor(o => (o.Secret, o.PreviousSecret) = (New, Old));
        IdempotentExecutor after = Executor(o => o.PreviousSecret = null);
        Receipt old = await RunAsync(before, "old");
        Receipt fresh = await RunAsync(rotated, "fresh");

        Receipt[] found = [await RunAsync(prepared, "old"), await RunAsync(rotated, "old"), await RunAsync(prepared, "fresh"), await RunAsync(after, "fresh")];
        Receipt forgotten = await RunAsync(after, "old");

        found.Should().Equal(old, old, fresh, fresh);
        forgotten.Number.Should().Be(3, "its secret is gone");
    }

    [Fact]
    public async Task The_first_secret_can_be_introduced_while_records_without_one_are_kept()
    {
        const string New = "the new secret, long enough";
        Receipt old = await RunAsync(Executor());
        IdempotentExecutor introduced = Executor(o => (o.Secret, o.PreviousSecret) = (New, ""));

        Receipt found = await RunAsync(introduced);

        found.Should().Be(old);
    }

    [Fact]
    public async Task A_downstream_key_is_a_uuid_that_depends_on_all_but_the_secrets()
    {
        string subject = "";
        async Task<string[]> KeysAsync(IdempotentExecutor executor, string key, byte[] body)
        {
            await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope(executor.Name, subject), key, body);
            return [operation.DownstreamKey("charge"), operation.DownstreamKey("charge"), operation.DownstreamKey("mail")];
        }

        string[] first = await KeysAsync(Executor(), "key", Body);
        Time.Advance(Lease);
        string[] takenOver = await KeysAsync(Executor(o => o.Secret = "another secret, long enough"), "key", Body);
        string[] otherKey = await KeysAsync(Executor(), "key2", Body);
        string[] otherBody = await KeysAsync(Executor(), "key", [1]);
        subject = "me";
        string[] otherSubject = await KeysAsync(Executor(), "key", Body);

        takenOver.Should().Equal(first);
        first[0].Should().Be(first[1]).And.NotBe(first[2]);
        string[] all = [first[0], first[2], otherKey[0], otherBody[0], otherSubject[0]];
        all.Should().OnlyHaveUniqueItems();
        all.Should().OnlyContain(key => key.Length == 36 && Guid.ParseExact(key, "D").Version == 8 && (Guid.ParseExact(key, "D").Variant & 0xc) == 8);
    }

    [Fact]
    public async Task Options_that_change_hold_from_the_next_operation_on()
    {
        IdempotentExecutor executor = Executor();
        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), "running", Body);

        executor.Update(new IdempotencyOptions { Retention = TimeSpan.FromHours(1), MaxOutcomeBytes = 1 });
        await operation.CompleteAsync(new IdempotencyOutcome(200, Body));
        Action invalid = () => executor.Update(new IdempotencyOptions { Lease = TimeSpan.Zero });

        invalid.Should().Throw<Microsoft.Extensions.Options.OptionsValidationException>();
        (executor.Name, executor.Retention, executor.MaxOutcomeBytes).Should().Be(("orders", TimeSpan.FromHours(1), 1));
        Time.Advance(TimeSpan.FromHours(2));
        await using IdempotentOperation replay = await executor.BeginAsync(new IdempotencyScope("orders"), "running", Body);
        replay.Outcome!.IsTombstone.Should().BeFalse("it was begun under the old options");
    }

    [Fact]
    public void Missing_arguments_are_told_at_once()
    {
        IdempotentExecutor executor = Executor();
        Action[] calls =
        [
            () => _ = new IdempotentExecutor(null!, Options),
            () => _ = new IdempotentExecutor(Store, null!),
            () => executor.Update(null!),
            () => _ = executor.ExecuteAsync("key", Body, (Func<IdempotentOperation, CancellationToken, ValueTask<int>>)null!, Json.Default.Int32),
            () => _ = executor.ExecuteAsync("key", Body, (_, _) => new ValueTask<int>(1), null!),
            () => _ = executor.ExecuteAsync("key", Body, (Func<IdempotentOperation, CancellationToken, Task>)null!),
            () => _ = executor.BeginAsync(default, "key", Body),
        ];

        calls.Should().AllSatisfy(call => call.Should().Throw<ArgumentNullException>());
        Store.AllCalls.Should().Be(0);
    }

    [Fact]
    public async Task A_replay_whose_type_refuses_what_was_kept_is_a_typed_error()
    {
        IdempotentExecutor executor = Executor();
        await RunAsync(executor);

        Func<Task> repeat = async () => await executor.ExecuteAsync("key", Body, (_, _) => new ValueTask<Strict>(new Strict(101)), Json.Default.Strict);

        IdempotencyException unreadable = (await repeat.Should().ThrowAsync<IdempotencyException>()).Which;
        unreadable.Error.Should().Be(IdempotencyError.OutcomeUnreadable);
        unreadable.InnerException.Should().BeOfType<ArgumentOutOfRangeException>();
    }

    [Fact]
    public async Task A_run_without_a_result_is_repeated_also_where_no_byte_is_kept()
    {
        IdempotentExecutor executor = Executor(o => o.MaxOutcomeBytes = 0);
        int runs = 0;

        await executor.ExecuteAsync("key", Body, (_, _) => new ValueTask(Task.FromResult(++runs)));
        await executor.ExecuteAsync("key", Body, (_, _) => new ValueTask(Task.FromResult(++runs)));

        runs.Should().Be(1);
    }

    [Fact]
    public async Task Downstream_keys_of_operations_that_were_refused_differ_too()
    {
        IdempotentExecutor executor = Executor();
        var scope = new IdempotencyScope("orders");
        string old = Guid.CreateVersion7(Start.AddDays(-2)).ToString();
        await using IdempotentOperation one = await executor.BeginAsync(scope, old, Body);
        await using IdempotentOperation other = await executor.BeginAsync(scope, Guid.CreateVersion7(Start.AddDays(-2)).ToString(), Body);
        await using IdempotentOperation allowed = await Executor(o => o.RefuseExpiredKeys = false).BeginAsync(scope, old, Body);

        (one.Status, other.Status, allowed.Status).Should().Be((IdempotencyStatus.KeyExpired, IdempotencyStatus.KeyExpired, IdempotencyStatus.Started));
        one.DownstreamKey("charge").Should().NotBe(other.DownstreamKey("charge")).And.Be(allowed.DownstreamKey("charge"));
    }

    [Theory]
    [InlineData("0x000001-0000-7000-8000-000000000000")]
    [InlineData("+0000001-0000-7000-8000-000000000000")]
    [InlineData("00000001-+000-7000-8000-000000000000")]
    [InlineData("00000001-0x00-7000-8000-000000000000")]
    public async Task What_only_resembles_a_uuid_carries_no_time(string key)
    {
        IdempotentExecutor executor = Executor();

        await using IdempotentOperation operation = await executor.BeginAsync(new IdempotencyScope("orders"), key, Body);

        operation.Status.Should().Be(IdempotencyStatus.Started);
    }

    [Fact]
    public async Task A_store_that_wakes_for_nothing_is_not_asked_in_a_busy_loop()
    {
        IdempotentExecutor executor = Executor(o => (o.Duplicates, o.MaxWait) = (DuplicatePolicy.WaitAndReplay, TimeSpan.FromSeconds(1)));
        await using IdempotentOperation owner = await executor.BeginAsync(new IdempotencyScope("orders"), "key", Body);
        Store.Waits = _ =>
        {
            Time.Advance(TimeSpan.FromMicroseconds(20));
            return ValueTask.CompletedTask;
        };

        Task<Receipt> duplicate = Task.Run(async () => await RunAsync(executor));
        await AdvanceUntilAsync(duplicate, TimeSpan.FromMilliseconds(5));

        (await RefusalAsync(new ValueTask<Receipt>(duplicate))).Error.Should().Be(IdempotencyError.InProgress);
        Store.Calls(Verb.Begin).Should().BeInRange(10, 60);
    }

    [Fact]
    public async Task A_record_that_is_taken_over_lives_on_under_the_old_secret()
    {
        var scope = new IdempotencyScope("orders");
        IdempotentExecutor executor = Executor(o => o.Secret = new string('a', 16));
        await (await executor.BeginAsync(scope, "key", Body)).DisposeAsync();
        Options.PreviousSecret = Options.Secret;
        Options.Secret = new string('b', 16);
        executor.Update(Options);
        Time.Advance(Options.Retention - TimeSpan.FromHours(1));
        await using IdempotentOperation late = await executor.BeginAsync(scope, "key", Body);
        await late.CompleteAsync(new IdempotencyOutcome(200, Body));

        Time.Advance(Options.Retention - TimeSpan.FromHours(1));

        (await executor.BeginAsync(scope, "key", Body)).Status.Should().Be(IdempotencyStatus.Completed, "the old secret is known for twice the retention");
        Options.PreviousSecret = null;
        executor.Update(Options);
        (await executor.BeginAsync(scope, "key", Body)).Status.Should().Be(IdempotencyStatus.Started, "too early, which is why");
    }
}
