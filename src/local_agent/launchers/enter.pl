# The last step before a flow run: this process takes its environment and folder and becomes it.
#
#   perl enter.pl FOLDER COMMAND...
#
# The environment is read from descriptor 3, after a line of words: NAME=VALUE, each with a NUL after it. A shell would
# lose names that it cannot have as variables, and arguments can be read by everybody. What is read is emptied at once:
# so the shim, which shares the file, sees that the flow run began. An errno is left there where it could not begin.
# Where the file is empty already, the shim's subshell has taken the environment and could not execute the command.
# Perl starts in a fifth of Python's time and is on every Debian; enter.py does the same where it is not. No strict and
# no warnings: to load them takes as long as all the rest.

my ($folder, @command) = @ARGV;
open my $shared, '+<&=', 3 or die "descriptor 3: $!\n";
my $given = do { local $/; <$shared> };
open my $file, '+<&', $shared or unable("cannot keep descriptor 3");    # from 4 on, closed by exec
close $shared;
if (length $given) {
    $given =~ /\A# entries/ or die "descriptor 3 holds no entries\n";
    truncate $file, 0 or die "descriptor 3: $!\n";
    my (undef, $entries) = split /\n/, $given, 2;
    %ENV = ();
    for my $entry (split /\0/, $entries) {
        my ($name, $text) = split /=/, $entry, 2;
        $ENV{$name} = $text;
    }
}
chdir $folder or unable("cannot enter $folder");
exec { $command[0] } @command;
unable("cannot execute $command[0]");

sub unable {
    my ($what) = @_;
    my ($number, $words) = ($! + 0, "$!");
    print STDERR "local-agent: $what: $words\n";
    sysseek $file, 0, 0;
    syswrite $file, "$number\n";
    sysseek $file, 0, 0;
    exit($number == 2 ? 127 : 126);
}
